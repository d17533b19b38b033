"""Captions per second of one process: ours, and the plain way.

    OMP_NUM_THREADS=1 python -m benchmarks.captions

Plain is: synonyms looked up in WordNet each time, open_clip's tokenizer called on batches.
Captions are made up of English words, more frequent ones more often, as in real text. Both sides
have seen all words before: reading WordNet takes a second, and each synset's first time 50 µs.
Counted is the time that the processor worked for us, whatever else it had to do.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from open_clip import SimpleTokenizer

from benchmarks.measuring import cpu_seconds, header, row
from workflow_scripts.captions import eda
from workflow_scripts.captions.synonyms import WordNet
from workflow_scripts.captions.tokens import Tokenizer
from workflow_scripts.common.seeds import seed_for

LENGTH = 77
BATCH = 2000


def captions(count: int, words: list[str], seed: int) -> list[str]:
    """Return captions of 3 to 20 words, with Zipf's distribution of words."""
    draw = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(words) + 1)
    chosen = draw.choice(words, (count, 20), p=weights / weights.sum())
    lengths = draw.integers(3, 21, count)
    return [" ".join(row[:n]).capitalize() for row, n in zip(chosen, lengths, strict=True)]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--captions", type=int, default=10_000)
    parser.add_argument("--vocabulary", type=int, default=8_000, help="different words")
    parser.add_argument("--wordnet", type=Path, default=Path("nltk_data"))
    options = parser.parse_args()
    wordnet = WordNet(options.wordnet / "corpora/wordnet")
    lemmas = wordnet.reader.all_lemma_names()
    known = sorted(name for name in lemmas if name.isascii() and name.isalpha())
    draw = np.random.default_rng(0)
    stop_words = sorted(eda.STOP_WORDS)
    words = stop_words[:20] + list(draw.choice(known, options.vocabulary, replace=False))
    texts = captions(options.captions, words, seed=0)
    open_clip = SimpleTokenizer(context_length=LENGTH)
    sides = {
        "augment": (augmenter(wordnet.synonyms), augmenter(wordnet.synonyms.__wrapped__)),
        "tokenize": (Tokenizer(LENGTH), open_clip),
    }
    header()
    for name, functions in sides.items():
        row(f"captions: {name}, one core", *(rate(one, texts) for one in functions), "captions/s")


if __name__ == "__main__":
    main()
