"""Synonyms out of a folder of WordNet, as nltk reads it."""

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import nltk.data
from nltk.corpus.reader.wordnet import WordNetCorpusReader

from workflow_scripts.common.errors import StepError

_PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}  # nltk's letter -> in files' names
WORDS = tuple(
    name for part in _PARTS.values() for name in (f"index.{part}", f"data.{part}", f"{part}.exc")
)
FILES = (*WORDS, "lexnames")

_NOT_LETTERS = re.compile("[^a-z ]")


class _Reader(WordNetCorpusReader):
    def map_wn(self, version: str = "wordnet") -> None:
        """Return no map to other editions, which takes seconds and ``index.sense``."""


class WordNet:
    """A folder of WordNet's ``index.*``, ``data.*`` and ``*.exc`` files, and of ``lexnames``.

    It holds open files, in which forked processes would share one place: each makes its own.
    """

    def __init__(self, folder: str | Path):
        """Read the indices; the data is read as it is asked for.

        Raises:
            StepError: As :meth:`check` does, or the files are damaged or refused by nltk. So do
                the other methods, as they come to what is damaged.
        """
        self._folder = Path(folder)
        self.check(self._folder)
        # nltk reads nothing outside of the folders in this list.
        nltk.data.path.append(str(folder))
        with self._reading():
            # If there were None in place of other languages, nltk would warn.
            self.reader = _Reader(str(folder), omw_reader=False)
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
        with self._reading():
            names = {name for synset in self.reader.synsets(word) for name in synset.lemma_names()}
        found = {_letters_only(name) for name in names}
        return tuple(sorted(found - {word, ""}))

    def digest(self) -> str:
        """Return the SHA-256 of all words by lemma and sense, and of the irregular forms.

        Editions that differ in definitions or in the layout of their files have the same one.
        """
        hashed = hashlib.sha256()
        with self._reading():
            for letter, part in _PARTS.items():
                for lemma in sorted(self.reader.all_lemma_names(letter)):
                    synsets = self.reader.synsets(lemma, letter)
                    senses = [" ".join(synset.lemma_names()) for synset in synsets]
                    hashed.update("\t".join([part, lemma, *senses, "\n"]).encode())
                hashed.update(" ".join(self.reader.raw(f"{part}.exc").split()).encode())
        return hashed.hexdigest()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise StepError(
                f"{self._folder} may not be read ({error}); or make WordNet ready in a folder of "
                "your own (python -m workflow_scripts.captions.wordnet --output FOLDER) and set "
                "wordnet in the config to it"
            ) from error
        # What nltk raises depends on where a file is damaged: nearly anything.
        except Exception as error:
            raise StepError(
                f"{self._folder} is no WordNet that can be read (files that do not fit together, "
                "or are damaged); remove the folder and make it anew with `make setup`"
            ) from error


def _letters_only(name: str) -> str:
    """Return a lemma as words of letters: "wafer-thin" and "ice_cream" become two words."""
    spaced = name.lower().replace("_", " ").replace("-", " ")
    return " ".join(_NOT_LETTERS.sub("", spaced).split())
