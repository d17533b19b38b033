"""Turn the captions of a manifest into tokens, once, for all training runs.

Needs   MANIFEST
Makes   OUTPUT/tokens.npy          uint16 [rows, context length], to be memory-mapped; row i is
                                   what open_clip's tokenizer makes of the manifest's row i; for
                                   an overlay (--base), see stored.py

The bytes are the same for any number of workers.
"""

import argparse
from functools import partial
from pathlib import Path

from tqdm import tqdm

from workflow_scripts.captions.chunks import (
    OF_BASE,
    TOKENIZER,
    in_chunks,
    in_order,
    read_captions,
    token_file,
    tokens_of,
)
from workflow_scripts.common.errors import run_step
from workflow_scripts.common.workers import worker_pool


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the tokens."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--context-length", type=int, required=True, help="tokens of a caption")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--base", type=Path, nargs="*", default=[], help=OF_BASE)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    options = parser.parse_args(arguments)
    length = options.context_length
    captions = read_captions(options.manifest, length, bool(options.base))
    tasks = ((texts,) for _, texts in in_chunks(captions))
    with (
        worker_pool(options.workers, preload=[TOKENIZER]) as pool,
        token_file(options.output / "tokens.npy", captions, length) as write,
        tqdm(desc="captions", total=len(captions), mininterval=5) as progress,
    ):
        tokenize = partial(tokens_of, context_length=length)
        for tokens in in_order(pool, tokenize, tasks, ahead=2 * options.workers):
            write(tokens)
            progress.update(len(tokens))


if __name__ == "__main__":
    run_step(main)
