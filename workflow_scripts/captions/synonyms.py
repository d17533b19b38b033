"""Synonyms from a WordNet folder, read with nltk."""

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.imports import hidden

# For classifiers and statistics that are not used here, nltk imports them, which takes most of the
# time in which a step with captions starts.
with hidden("scipy", "sklearn"):
    import nltk.data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

_PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}  # nltk's letter -> part of file names
WORDS = tuple(
    name for part in _PARTS.values() for name in (f"index.{part}", f"data.{part}", f"{part}.exc")
)
FILES = (*WORDS, "lexnames")

_NOT_LETTERS = re.compile("[^a-z ]")


class _Reader(WordNetCorpusReader):
    def map_wn(self, version: str = "wordnet") -> None:
        """Skip the mapping to other editions, which takes seconds and needs ``index.sense``."""


class WordNet:
    """A folder with WordNet's ``index.*``, ``data.*`` and ``*.exc`` files and ``lexnames``.

    Each process has to create its own instance: forked processes would share the position of open
    files.
    """

    def __init__(self, folder: str | Path):
        """Read the indices; the data files are read on demand.

        Raises:
            StepError: As :meth:`check`, or the files are damaged or refused by nltk. Other methods
                raise it when they read a damaged part.
        """
        self._folder = Path(folder)
        self.check(self._folder)
        # nltk only reads files inside the folders of this list.
        nltk.data.path.append(str(folder))
        with self._reading():
            # False instead of None, which would cause a warning.
            self.reader = _Reader(str(folder), omw_reader=False)
        self.synonyms = functools.cache(self._synonyms)

    @staticmethod
    def check(folder: Path) -> None:
        """Check that all files exist.

        Raises:
            StepError: A file is missing; the message says how to install WordNet.
        """
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise StepError(
                f"{folder} has no {missing[0]}; install WordNet with `make setup` (or: python "
                "-m workflow_scripts.captions.wordnet --output nltk_data)"
            )

    def _synonyms(self, word: str) -> tuple[str, ...]:
        """Return all lemmas of the synsets of a word or of its base forms.

        Args:
            word: A word in lower case.

        Returns:
            Lemmas reduced to the letters a-z and spaces, in alphabetical order, without ``word``
            itself.
        """
        with self._reading():
            names = {name for synset in self.reader.synsets(word) for name in synset.lemma_names()}
        found = {_letters_only(name) for name in names}
        return tuple(sorted(found - {word, ""}))

    def digest(self) -> str:
        """Return the SHA-256 of all words by lemma and sense, and of the irregular forms.

        It does not depend on definitions and on the layout of the files.
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
                f"{self._folder} cannot be read ({error}); fix its permissions, or install WordNet "
                "in another folder (python -m workflow_scripts.captions.wordnet --output FOLDER) "
                "and set wordnet in the config to it"
            ) from error
        # nltk raises nearly any exception, depending on where a file is damaged.
        except Exception as error:
            raise StepError(
                f"{self._folder} is not a valid WordNet (damaged or inconsistent files); remove "
                "the folder and recreate it with `make setup`"
            ) from error


def _letters_only(name: str) -> str:
    """Reduce a lemma to words of letters: "wafer-thin" and "ice_cream" become two words."""
    spaced = name.lower().replace("_", " ").replace("-", " ")
    return " ".join(_NOT_LETTERS.sub("", spaced).split())
