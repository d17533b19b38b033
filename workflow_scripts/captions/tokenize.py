"""Tokenize the captions of a manifest once for all training runs.

Inputs  MANIFEST
Outputs OUTPUT/tokens.npy          uint16 [rows, context length]: the tokens of open_clip's
                                   tokenizer, in the order of the manifest; for an overlay
                                   (--base), see stored.py

The output does not depend on the number of workers.
"""

import argparse
from functools import partial
from pathlib import Path

from tqdm import tqdm

from workflow_scripts.captions.chunks import (
    BASE_HELP,
    in_chunks,
    in_order,
    pool_for,
    read_captions,
    token_file,
    tokens_of,
)
from workflow_scripts.common.errors import run_step


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the tokens."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--context-length", type=int, required=True, help="tokens per caption")
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    parser.add_argument("--base", type=Path, nargs="*", default=[], help=BASE_HELP)
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    options = parser.parse_args(arguments)
    length = options.context_length
    captions = read_captions(options.manifest, length, bool(options.base))
    tasks = ((texts,) for _, texts in in_chunks(captions))
    with (
        pool_for(captions, options.workers) as pool,
        token_file(options.output / "tokens.npy", captions, length) as write,
        tqdm(desc="captions", total=len(captions), mininterval=5) as progress,
    ):
        tokenize = partial(tokens_of, context_length=length)
        for tokens in in_order(pool, tokenize, tasks, ahead=2 * options.workers):
            write(tokens)
            progress.update(len(tokens))


if __name__ == "__main__":
    run_step(main)
