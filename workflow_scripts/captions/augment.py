"""Augment each caption of a manifest once, by EDA (Wei and Zou, 2019) with WordNet synonyms.

Inputs  MANIFEST
        WORDNET                    folder of nltk data, prepared by wordnet.py
Outputs OUTPUT/augmented.npy       uint16 [rows, context length]: tokens of the augmented captions;
                                   for an overlay (--base), see stored.py
        OUTPUT/augmented.parquet   key, caption, operation, augmented: the same in readable form

Each caption is augmented by one of the four EDA operations. The choice and the result depend only
on the seed, the key and the caption, not on the number of workers.
"""

import argparse
import functools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from workflow_scripts.captions import eda
from workflow_scripts.captions.chunks import (
    BASE_HELP,
    in_chunks,
    in_order,
    pool_for,
    read_captions,
    token_file,
    tokens_of,
)
from workflow_scripts.captions.synonyms import WordNet
from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import atomic
from workflow_scripts.common.seeds import seed_for


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the augmented captions and their tokens."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--context-length", type=int, required=True, help="tokens per caption")
    parser.add_argument("--wordnet", type=Path, required=True, help="folder of nltk data")
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    parser.add_argument("--base", type=Path, nargs="*", default=[], help=BASE_HELP)
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    options = parser.parse_args(arguments)
    length, wordnet = options.context_length, options.wordnet / "corpora" / "wordnet"
    captions = read_captions(options.manifest, length, bool(options.base))
    WordNet.check(wordnet)
    augment = partial(augment_chunk, seed=options.seed, wordnet=wordnet, context_length=length)
    texts = []
    with (
        pool_for(captions, options.workers) as pool,
        token_file(options.output / "augmented.npy", captions, length) as write,
        tqdm(desc="captions", total=len(captions), mininterval=5) as progress,
    ):
        for text, tokens in in_order(pool, augment, in_chunks(captions), 2 * options.workers):
            write(tokens)
            texts.append(text)
            progress.update(len(tokens))
        _write_texts(options.output / "augmented.parquet", captions, texts)


def augment_chunk(
    keys: Sequence[str], captions: Sequence[str], *, seed: int, wordnet: Path, context_length: int
) -> tuple[pa.Table, np.ndarray]:
    """Augment a chunk of captions.

    Returns:
        Table of ``operation`` and ``augmented`` text, and the tokens of the augmented texts, uint16
        ``[captions, context_length]``.
    """
    synonyms = _wordnet(wordnet).synonyms
    augmented = [
        eda.augment(caption, seed_for(seed, "eda", key), synonyms)
        for key, caption in zip(keys, captions, strict=True)
    ]
    operations, texts = zip(*augmented, strict=True)
    table = pa.table({"operation": operations, "augmented": texts})
    return table, tokens_of(texts, context_length)


@functools.cache
def _wordnet(folder: Path) -> WordNet:
    return WordNet(folder)


def _write_texts(path: Path, captions: pd.DataFrame, texts: list[pa.Table]) -> None:
    empty = pa.schema([("operation", pa.string()), ("augmented", pa.string())]).empty_table()
    table = pa.table({name: pa.array(captions[name]).cast(pa.string()) for name in captions})
    for name, column in zip(empty.column_names, pa.concat_tables([empty, *texts]), strict=True):
        table = table.append_column(name, column)
    with atomic(path) as temporary:
        pq.write_table(table.combine_chunks(), temporary, compression="zstd")


if __name__ == "__main__":
    run_step(main)
