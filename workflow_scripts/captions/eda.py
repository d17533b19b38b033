"""Easy data augmentation of text (EDA; Wei and Zou, EMNLP 2019): its four operations.

An operation takes the words of a caption, a synonym finder and a source of random numbers, and
returns other words. Where the paper's text leaves a choice open, its published code was followed:
a replaced word is replaced wherever it stands, and text is reduced to the letters a-z first.
"""

import random
import re
from collections.abc import Callable, Sequence

Words = Sequence[str]
Synonyms = Callable[[str], tuple[str, ...]]

ALPHA = 0.1  # share of the words that are replaced, inserted or swapped; at least one word
DELETION = 0.1  # probability of each word's deletion
_TRIES = 10  # to draw a word that has synonyms

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

# Of Python's generators, this one's random() is promised to stay as it is for a seed. Seeding is a
# quarter of an augmentation's time, and making a new one seeds it twice.
_draw = random.Random()

_DROPPED = str.maketrans("", "", "'’")
_NOT_LETTERS = re.compile("[^a-z]+")
# The same for each character of ASCII: what lower case and the two above make of it.
_ASCII = {
    code: _NOT_LETTERS.sub(" ", chr(code).translate(_DROPPED).lower()) or None
    for code in range(128)
}


def clean(caption: str) -> list[str]:
    """Return the words of a caption in lower case; apostrophes vanish, all but a-z separates."""
    if caption.isascii():
        return caption.translate(_ASCII).split()
    return _NOT_LETTERS.sub(" ", caption.translate(_DROPPED).lower()).split()


def augment(caption: str, seed: int, synonyms: Synonyms) -> tuple[str, str]:
    """Augment a caption by one of the four operations, each as likely as the others.

    Args:
        caption: Any text with a letter of any script.
        seed: All of its randomness.
        synonyms: Finds a word's synonyms, in an order that does not change.

    Returns:
        The operation's name and the augmented caption, which has a letter too. A caption
        without any of the letters a-z cannot be augmented: it is returned as it is, and the
        operation is ``"none"``.
    """
    words = clean(caption)
    if not words:
        return UNCHANGED, caption
    _draw.seed(seed)
    name = _choice(_draw, tuple(OPERATIONS))
    return name, " ".join(OPERATIONS[name](words, synonyms, _draw))


def replace_by_synonyms(words: Words, synonyms: Synonyms, draw: random.Random) -> list[str]:
    """Replace some words, which are no stop words, by a synonym of each."""
    replaced: dict[str, str] = {}
    for word in _shuffled(draw, [w for w in dict.fromkeys(words) if w not in STOP_WORDS]):
        if len(replaced) == _share(words):
            break
        if found := synonyms(word):
            replaced[word] = _choice(draw, found)
    return [replaced.get(word, word) for word in words]


def insert_synonyms(words: Words, synonyms: Synonyms, draw: random.Random) -> list[str]:
    """Insert a synonym of a random word at a random place, but the end; some times.

    As in the published code, stop words and words inserted before count too, a word without
    synonyms is drawn again up to nine times, and the synonym is the first one. There it was the
    first of a Python set, an arbitrary one that was the same for all captions; here it is the first
    in the order of ``synonyms``.
    """
    result = list(words)
    for _ in range(_share(words)):
        drawn = (synonyms(_choice(draw, result)) for _ in range(_TRIES))
        found = next((there for there in drawn if there), None)
        if found:
            result.insert(_below(draw, len(result)), found[0])
    return result


def swap(words: Words, synonyms: Synonyms, draw: random.Random) -> list[str]:
    """Swap two words, some times."""
    result = list(words)
    if len(words) > 1:
        for _ in range(_share(words)):
            first = _below(draw, len(words))
            second = (first + 1 + _below(draw, len(words) - 1)) % len(words)
            result[first], result[second] = result[second], result[first]
    return result


def delete(words: Words, synonyms: Synonyms, draw: random.Random) -> list[str]:
    """Delete each word with a probability of ``DELETION``; a random one stays if none would."""
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
