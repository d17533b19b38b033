"""The four operations of easy data augmentation (EDA; Wei and Zou, EMNLP 2019).

An operation takes the words of a caption, a function that finds synonyms and a random generator,
and returns the changed words. Where the paper is ambiguous, its published code is followed: a word
is replaced at all its occurrences, and text is first reduced to the letters a-z.
"""

import random
import re
from collections.abc import Callable, Sequence

Words = Sequence[str]
Synonyms = Callable[[str], tuple[str, ...]]

ALPHA = 0.1  # fraction of words that are replaced, inserted or swapped; at least one word
DELETION = 0.1  # probability of deleting each word
_TRIES = 10  # attempts to draw a word that has synonyms

UNCHANGED = "none"

_STOP_WORDS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself
she her hers herself it its itself they them their theirs themselves what which who whom
this that these those am is are was were be been being have has had having do does did
doing a an the and but if or because as until while of at by for with about against between
into through during before after above below to from up down in out on off over under again
further then once here there when where why how all any both each few more most other some
such no nor not only own same so than too very s t can will just don should now
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# Python guarantees that Random.random() stays the same for a seed. The generator is shared, because
# seeding takes a quarter of the time of an augmentation and creating one would seed it twice.
_draw = random.Random()

_DROPPED = str.maketrans("", "", "'’")
_NOT_LETTERS = re.compile("[^a-z]+")
# The combined effect of lower() and the two above on each ASCII character.
_ASCII = {
    code: _NOT_LETTERS.sub(" ", chr(code).translate(_DROPPED).lower()) or None
    for code in range(128)
}


def clean(caption: str) -> list[str]:
    """Return the lower-case words of a caption, split at all characters but a-z and apostrophes.

    Apostrophes are removed.
    """
    if caption.isascii():
        return caption.translate(_ASCII).split()
    return _NOT_LETTERS.sub(" ", caption.translate(_DROPPED).lower()).split()


def augment(caption: str, seed: int, synonyms: Synonyms) -> tuple[str, str]:
    """Augment a caption by one of the four operations, drawn with equal probability.

    Args:
        caption: Text with at least one letter of any script.
        seed: Seed of the random generator.
        synonyms: Function that returns the synonyms of a word in a fixed order.

    Returns:
        The name of the operation and the augmented caption, which has at least one letter. A
        caption without any of the letters a-z is returned unchanged, with the operation ``"none"``.
    """
    words = clean(caption)
    if not words:
        return UNCHANGED, caption
    _draw.seed(seed)
    name = _choice(_draw, tuple(OPERATIONS))
    return name, " ".join(OPERATIONS[name](words, synonyms, _draw))


def replace_by_synonyms(words: Words, synonyms: Synonyms, draw: random.Random) -> list[str]:
    """Replace a fraction ``ALPHA`` of the words, excluding stop words, by synonyms."""
    replaced: dict[str, str] = {}
    for word in _shuffled(draw, [w for w in dict.fromkeys(words) if w not in STOP_WORDS]):
        if len(replaced) == _share(words):
            break
        if found := synonyms(word):
            replaced[word] = _choice(draw, found)
    return [replaced.get(word, word) for word in words]


def insert_synonyms(words: Words, synonyms: Synonyms, draw: random.Random) -> list[str]:
    """Insert synonyms of random words at random positions other than the end.

    As in the published code, words are drawn from all words, including stop words and inserted
    ones; a word without synonyms is redrawn up to nine times; and the first synonym is inserted.
    The published code takes the first element of a Python set, which is arbitrary but the same for
    all captions. Here it is the first in the order of ``synonyms``.
    """
    result = list(words)
    for _ in range(_share(words)):
        candidates = (synonyms(_choice(draw, result)) for _ in range(_TRIES))
        found = next((candidate for candidate in candidates if candidate), None)
        if found:
            result.insert(_below(draw, len(result)), found[0])
    return result


def swap(words: Words, synonyms: Synonyms, draw: random.Random) -> list[str]:
    """Swap two random words, once for a fraction ``ALPHA`` of the words."""
    result = list(words)
    if len(words) > 1:
        for _ in range(_share(words)):
            first = _below(draw, len(words))
            second = (first + 1 + _below(draw, len(words) - 1)) % len(words)
            result[first], result[second] = result[second], result[first]
    return result


def delete(words: Words, synonyms: Synonyms, draw: random.Random) -> list[str]:
    """Delete each word with probability ``DELETION``; if all are deleted, keep a random one."""
    kept = [word for word in words if draw.random() >= DELETION]
    return kept or [_choice(draw, words)]


OPERATIONS: dict[str, Callable[[Words, Synonyms, random.Random], list[str]]] = {
    "synonym replacement": replace_by_synonyms,
    "random insertion": insert_synonyms,
    "random swap": swap,
    "random deletion": delete,
}


def _share(words: Words) -> int:
    return max(1, int(ALPHA * len(words)))


def _below(draw: random.Random, bound: int) -> int:
    return int(draw.random() * bound)


def _choice(draw: random.Random, items: Sequence[str]) -> str:
    return items[_below(draw, len(items))]


def _shuffled(draw: random.Random, items: list[str]) -> list[str]:
    for last in range(len(items) - 1, 0, -1):
        other = _below(draw, last + 1)
        items[last], items[other] = items[other], items[last]
    return items
