"""Captions per second of one core, and the two steps as the workflow calls them.

    python -m benchmarks.captions
    python -m benchmarks.captions --captions 6000000     the steps at the size of CC6M

Plain is: synonyms looked up in WordNet each time, open_clip's tokenizer called on batches.
Captions are made up of English words, more frequent ones more often, as in real text; one in ten
has a character outside of ASCII. Both sides have seen all words before: reading WordNet takes a
second, and each word's first time 0.1 ms. A step is measured with all that, its processes' start
included, beside the time that the plain way would take for the same captions without any of it.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from open_clip import SimpleTokenizer

from benchmarks.measuring import Cost, cost_of_command, cpu_seconds, header, row
from workflow_scripts.captions import eda
from workflow_scripts.captions.synonyms import WordNet
from workflow_scripts.captions.tokens import Tokenizer
from workflow_scripts.common.seeds import seed_for
from workflow_scripts.data.manifest import write_manifest

LENGTH = 77
BATCH = 2000
ODD = (" – ", " café ", " it’s ", " “quoted” ", " 東京 ", " & ")


def made_up_captions(count: int, words: list[str], seed: int) -> list[str]:
    """Return captions of 3 to 30 words, with Zipf's distribution of words."""
    draw = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(words) + 1)
    places = draw.choice(len(words), (count, 30), p=weights / weights.sum())
    chosen = np.array(words, object)[places]
    lengths = draw.integers(3, 31, count)
    texts = [" ".join(row[:n]).capitalize() for row, n in zip(chosen, lengths, strict=True)]
    for place, number in enumerate(np.flatnonzero(draw.random(count) < 0.1)):
        texts[number] = texts[number].replace(" ", ODD[place % len(ODD)], 1)
    return texts


def rate(function: Callable[[list[str]], object], texts: list[str]) -> float:
    """Return texts per second of the processor's time, in batches, the second time."""

    def all_batches() -> None:
        for first in range(0, len(texts), BATCH):
            function(texts[first : first + BATCH])

    all_batches()
    return len(texts) / cpu_seconds(all_batches)


def augmenter(synonyms: eda.Synonyms) -> Callable[[list[str]], object]:
    def run(texts: list[str]) -> list[tuple[str, str]]:
        return [eda.augment(text, seed_for(0, text), synonyms) for text in texts]

    return run


def vocabulary(wordnet: WordNet, count: int) -> list[str]:
    """Return the most frequent words, which are stop words, and others of WordNet."""
    lemmas = wordnet.reader.all_lemma_names()
    known = sorted(name for name in lemmas if name.isascii() and name.isalpha())
    drawn = np.random.default_rng(0).choice(known, count, replace=False)
    return [*sorted(eda.STOP_WORDS)[:20], *(str(word) for word in drawn)]


def step(name: str, folder: Path, wordnet: Path, processes: int) -> Cost:
    """Run a step on the manifest of a folder."""
    options = f"--context-length {LENGTH} --workers {processes}".split()
    options += ["--manifest", str(folder / "manifest.parquet"), "--output", str(folder)]
    if name == "augment":
        options += ["--seed", "0", "--wordnet", str(wordnet)]
    command = [sys.executable, "-m", f"workflow_scripts.captions.{name}", *options]
    return cost_of_command(command, stderr=subprocess.DEVNULL)


def write(folder: Path, texts: list[str]) -> None:
    frame = pd.DataFrame({"key": [f"{n:09}" for n in range(len(texts))], "caption": texts})
    frame = frame.assign(tar="a.tar", offset=0, size=1, poisoned=False)
    write_manifest(folder / "manifest.parquet", frame)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=int, default=600_000, help="of the steps")
    parser.add_argument("--sample", type=int, default=10_000, help="captions of one core")
    parser.add_argument("--vocabulary", type=int, default=8_000, help="different words")
    parser.add_argument("--wordnet", type=Path, default=Path("nltk_data"))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    wordnet = WordNet(options.wordnet / "corpora/wordnet")
    texts = made_up_captions(options.captions, vocabulary(wordnet, options.vocabulary), seed=0)
    some = texts[: options.sample]
    open_clip = SimpleTokenizer(context_length=LENGTH)
    sides = {
        "augment": (augmenter(wordnet.synonyms), augmenter(wordnet.synonyms.__wrapped__)),
        "tokenize": (Tokenizer(LENGTH), open_clip),
    }
    header()
    plain = {}
    for name, functions in sides.items():
        ours, plain[name] = (rate(one, some) for one in functions)
        row(f"captions: {name}, one core", ours, plain[name], "captions/s")
    # The step tokenizes what it has augmented.
    seconds = {"augment": 1 / plain["augment"] + 1 / plain["tokenize"]}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), texts)
        for name in sides:
            cost = step(name, Path(folder), options.wordnet, options.processes)
            what = f"captions: step {name}, {len(texts):,} captions"
            alone = len(texts) * seconds.get(name, 1 / plain[name])
            row(f"{what}, processor", cost.cpu, alone, "s")


if __name__ == "__main__":
    main()
