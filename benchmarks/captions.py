"""Measure captions per second on one core, and the steps tokenize and augment.

    python -m benchmarks.captions
    python -m benchmarks.captions --captions 6000000     steps at the scale of CC6M

The baseline looks up synonyms in WordNet without a cache and calls open_clip's tokenizer on
batches. Captions are synthetic: English words with a realistic distribution of frequencies, and a
non-ASCII character in one caption out of ten. The rates per core are measured with warm caches
(reading WordNet takes a second, and each new word 0.1 ms). The times of the steps include filling
the caches and starting processes; their baseline is computed from the rates and does not.
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
    """Return captions of 3 to 30 words, whose frequencies follow Zipf's law."""
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
    """Return texts per second of CPU time, processed in batches after a warm-up pass."""

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
    """Return stop words, as the most frequent words, followed by random words from WordNet."""
    lemmas = wordnet.reader.all_lemma_names()
    known = sorted(name for name in lemmas if name.isascii() and name.isalpha())
    drawn = np.random.default_rng(0).choice(known, count, replace=False)
    return [*sorted(eda.STOP_WORDS)[:20], *(str(word) for word in drawn)]


def step(name: str, folder: Path, wordnet: Path, processes: int) -> Cost:
    """Run a step on the manifest in a folder and return its cost."""
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
    parser.add_argument("--captions", type=int, default=600_000, help="captions for the steps")
    parser.add_argument("--sample", type=int, default=10_000, help="captions for the rates")
    parser.add_argument("--vocabulary", type=int, default=8_000, help="number of distinct words")
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
        ours, plain[name] = (rate(function, some) for function in functions)
        row(f"captions: {name}, one core", ours, plain[name], "captions/s")
    # The step augment also tokenizes the augmented captions.
    seconds = {"augment": 1 / plain["augment"] + 1 / plain["tokenize"]}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), texts)
        for name in sides:
            cost = step(name, Path(folder), options.wordnet, options.processes)
            label = f"captions: step {name}, {len(texts):,} captions, processor"
            baseline = len(texts) * seconds.get(name, 1 / plain[name])
            row(label, cost.cpu, baseline, "s")


if __name__ == "__main__":
    main()
