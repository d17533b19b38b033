"""Synonyms out of WordNet's own files, read in place.

Formats: wndb(5WN); forms of a word: morphy(7WN), with the rules as nltk applies them. nltk's reader
finds the same synonyms (a test compares them), but takes 300 MB and some seconds in each process.
"""

import functools
import hashlib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from workflow_scripts.common.errors import StepError

PARTS = ("noun", "verb", "adj", "adv")
FILES = tuple(name for part in PARTS for name in (f"index.{part}", f"data.{part}", f"{part}.exc"))

_ENDINGS = {
    "noun": (
        *(("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z")),
        *(("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    ),
    "verb": (
        *(("s", ""), ("ies", "y"), ("es", "e"), ("es", "")),
        *(("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}
_NOT_LETTERS = re.compile("[^a-z ]")


class WordNet:
    """A folder of WordNet's ``index.*``, ``data.*`` and ``*.exc`` files.

    It holds open files: each process makes its own.
    """

    def __init__(self, folder: str | Path):
        """Read the indices; the data is read as it is asked for.

        Raises:
            StepError: As :meth:`check` does.
        """
        folder = Path(folder)
        self.check(folder)
        self._index = {part: _read_index(folder / f"index.{part}") for part in PARTS}
        self._exceptions = {part: _read_exceptions(folder / f"{part}.exc") for part in PARTS}
        self._data = {part: _map(folder / f"data.{part}") for part in PARTS}
        self.synonyms = functools.cache(self._synonyms)

    @staticmethod
    def check(folder: Path) -> None:
        """Check that all files are there.

        Raises:
            StepError: A file is missing; the message says how to make WordNet ready.
        """
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise StepError(
                f"{folder} has no {missing[0]}; make WordNet ready with `make setup` (or: python "
                "-m workflow_scripts.captions.wordnet --output nltk_data)"
            )

    def _synonyms(self, word: str) -> tuple[str, ...]:
        """Return what stands in a synset with ``word``, or with a word that it is a form of.

        Args:
            word: Lower case.

        Returns:
            Without ``word`` itself; of letters a-z and spaces; in alphabetical order.
        """
        names = (
            name
            for part in PARTS
            for form in self._forms(word, part)
            for names in self.senses(form, part)
            for name in names
        )
        found = {_letters_only(name) for name in names}
        return tuple(sorted(found - {word, ""}))

    def senses(self, lemma: str, part: str) -> Iterator[tuple[str, ...]]:
        """Yield the words of each sense of ``lemma`` as ``part`` of speech, by frequency."""
        line = self._index[part].get(lemma)
        if line is None:
            return
        fields = line.split()
        for offset in fields[len(fields) - int(fields[1]) :]:
            yield _words_at(self._data[part], int(offset))

    def _forms(self, word: str, part: str) -> list[str]:
        """Return ``word`` and its base forms, those which WordNet has as this part of speech."""
        bases = self._exceptions[part].get(word)
        if bases is None:
            rules = _ENDINGS[part]
            bases = [word.removesuffix(old) + new for old, new in rules if word.endswith(old)]
        there = self._index[part]
        return [form for form in dict.fromkeys([word, *bases]) if form in there]

    def digest(self) -> str:
        """Return the SHA-256 of all words by lemma and sense, and of the irregular forms.

        Editions that differ in definitions or in the layout of their files have the same one.
        """
        hashed = hashlib.sha256()
        for part in PARTS:
            for lemma in sorted(self._index[part]):
                senses = [" ".join(names) for names in self.senses(lemma, part)]
                hashed.update("\t".join([part, lemma, *senses, "\n"]).encode())
            for form, bases in sorted(self._exceptions[part].items()):
                hashed.update("\t".join([part, form, *bases, "\n"]).encode())
        return hashed.hexdigest()


def _read_index(path: Path) -> dict[str, str]:
    """Return lemma -> what follows it on its line; the licence's lines start with a space."""
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = (line.partition(" ") for line in lines if line and line[0] != " ")
    return {lemma: rest for lemma, _, rest in entries}


def _read_exceptions(path: Path) -> dict[str, list[str]]:
    lines = map(str.split, path.read_text(encoding="utf-8").splitlines())
    return {form: bases for form, *bases in filter(None, lines)}


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _words_at(data: mmap.mmap, offset: int) -> tuple[str, ...]:
    line = data[offset : data.find(b"\n", offset)].partition(b"|")[0]
    fields = line.decode().split()
    # Adjectives may carry a marker of where they stand: "galore(ip)".
    return tuple(word.partition("(")[0] for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2])


def _letters_only(name: str) -> str:
    """Return a lemma as words of letters: "wafer-thin" and "ice_cream" become two words."""
    spaced = name.lower().replace("_", " ").replace("-", " ")
    return " ".join(_NOT_LETTERS.sub("", spaced).split())
