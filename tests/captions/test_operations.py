"""The four operations of EDA, with synonyms from a small table."""

import random

import pytest

from workflow_scripts.captions import eda

WHOLE = "the small dog runs to the old house near a big river by the sea and a small dog"
WORDS = WHOLE.split()
TABLE = {"dog": ("canis familiaris", "hound"), "house": ("home",), "the": ("never",)}
SEEDS = range(200)


def synonyms(word: str) -> tuple[str, ...]:
    return TABLE.get(word, ())


def texts(name: str, words: list[str]) -> list[str]:
    operation = eda.OPERATIONS[name]
    return [" ".join(operation(words, synonyms, random.Random(seed))) for seed in SEEDS]


def test_replacement_affects_all_occurrences_of_words_that_are_not_stop_words():
    found = set(texts("synonym replacement", WORDS))
    assert found == {
        WHOLE.replace("dog", "hound"),
        WHOLE.replace("dog", "canis familiaris"),
        WHOLE.replace("house", "home"),
    }


def test_insertion_adds_first_synonyms_and_keeps_the_order():
    found = [text.split() for text in texts("random insertion", WORDS)]
    added = {"canis", "familiaris", "hound", "home", "never"}
    assert all([w for w in words if w not in added] == WORDS for words in found)
    assert {frozenset(set(words) & added) for words in found} == {
        frozenset({"canis", "familiaris"}),
        frozenset({"home"}),
        frozenset({"never"}),
        frozenset(),  # ten draws of words without synonyms
    }
    places = {words.index("home") for words in found if "home" in words}
    assert min(places) == 0
    assert max(places) == len(WORDS) - 1


def test_swap_exchanges_one_pair_per_ten_words():
    words = [f"w{n}" for n in range(19)]
    moved = [
        sum(a != b for a, b in zip(words, text.split(), strict=True))
        for text in texts("random swap", words)
    ]
    assert set(moved) == {2}
    assert all(sorted(text.split()) == sorted(WORDS) for text in texts("random swap", WORDS))


def test_deletion_removes_a_tenth_but_never_all():
    words = [f"w{n}" for n in range(100)]
    kept = [len(text.split()) for text in texts("random deletion", words)]
    assert sum(kept) / len(kept) == pytest.approx(90, abs=1)
    assert set(texts("random deletion", ["dog"])) == {"dog"}
    assert all(texts("random deletion", ["two", "words"]))


@pytest.mark.parametrize("words", [["the"], ["xyzzy"], ["dog", "dog"]])
@pytest.mark.parametrize("name", eda.OPERATIONS)
def test_short_captions_survive_each_operation(name, words):
    assert all(texts(name, words))


def test_cleaning_keeps_letters_and_spaces():
    caption = "Don't  miss\tthis: a well-known CAFÉ, the girl’s 2nd!"
    assert " ".join(eda.clean(caption)) == "dont miss this a well known caf the girls nd"


@pytest.mark.parametrize("caption", ["犬の写真", "!?", "\N{DOG FACE}"])
def test_a_caption_without_latin_letters_is_unchanged(caption):
    assert eda.augment(caption, 0, synonyms) == ("none", caption)
