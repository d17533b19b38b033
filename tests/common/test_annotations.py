"""Checks of values against annotations, and the messages for values that do not fit."""

import pytest

from workflow_scripts.common.annotations import literals, problem, wants_number


@pytest.mark.parametrize(
    ("annotation", "right", "wrong", "words"),
    [
        ("int", [1, -1], [1.5, True, "1", None], "a whole number"),
        ("float", [1, 0.5], [True, "x"], "a number"),
        ("str | None", ["a", None], [1, ["a"]], "text or null"),
        ("Optional[bool]", [True, None], [0], "true or false or null"),
        (
            "Annotated[int, '>= 1', '< 4']",
            [1, 3],
            [0, 4, 1.5, None],
            "a whole number of at least 1",
        ),
        ("Literal['a', 'b']", ["a"], ["c", 1], "'a' or 'b'"),
        ("str | Sequence[str]", ["a", ["a"]], [1, [1]], "text or a list"),
        ("Mapping[str, str]", [{}], [[]], "a mapping"),
        ("'int'", [1], ["x"], "a whole number"),
    ],
)
def test_values_are_checked_against_annotations(annotation, right, wrong, words):
    assert [problem(annotation, value) for value in right] == [None] * len(right)
    for value in wrong:
        assert words in problem(annotation, value)


@pytest.mark.parametrize(
    "annotation", ["", "pd.DataFrame | None", "Whatever", "x y", "Callable[..., int]"]
)
def test_unknown_annotations_accept_everything(annotation):
    assert problem(annotation, "anything") is None


def test_text_is_read_as_a_number_if_only_numbers_are_valid():
    assert wants_number("Annotated[float, '> 0'] | None") is float
    assert wants_number("int") is int
    assert wants_number("str | float") is None
    assert wants_number("str") is None


def test_the_literals_of_a_union_are_found():
    assert literals("Literal['a'] | Sequence[Literal['b', 'c']]") == ["a", "b", "c"]
