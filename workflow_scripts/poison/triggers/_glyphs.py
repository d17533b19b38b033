"""A 5 x 7 dot-matrix font, so that words have the same pixels whatever fonts are installed."""

import numpy as np

from workflow_scripts.common.errors import StepError

WIDTH, HEIGHT = 5, 7  # dots of a glyph
_GAP = 1  # dots between two glyphs

_BANDS = {
    "ABCDEFGHIJKLM": """
        .###. ####. .###. ####. ##### ##### .###. #...# .###. ..### #...# #.... #...#
        #...# #...# #...# #...# #.... #.... #...# #...# ..#.. ...#. #..#. #.... ##.##
        #...# #...# #.... #...# #.... #.... #.... #...# ..#.. ...#. #.#.. #.... #.#.#
        ##### ####. #.... #...# ####. ####. #.### ##### ..#.. ...#. ##... #.... #.#.#
        #...# #...# #.... #...# #.... #.... #...# #...# ..#.. ...#. #.#.. #.... #...#
        #...# #...# #...# #...# #.... #.... #...# #...# ..#.. #..#. #..#. #.... #...#
        #...# ####. .###. ####. ##### #.... .###. #...# .###. .##.. #...# ##### #...#
    """,
    "NOPQRSTUVWXYZ": """
        #...# .###. ####. .###. ####. .#### ##### #...# #...# #...# #...# #...# #####
        ##..# #...# #...# #...# #...# #.... ..#.. #...# #...# #...# #...# #...# ....#
        #.#.# #...# #...# #...# #...# #.... ..#.. #...# #...# #...# .#.#. .#.#. ...#.
        #..## #...# ####. #...# ####. .###. ..#.. #...# #...# #.#.# ..#.. ..#.. ..#..
        #...# #...# #.... #.#.# #.#.. ....# ..#.. #...# #...# #.#.# .#.#. ..#.. .#...
        #...# #...# #.... #..#. #..#. ....# ..#.. #...# .#.#. ##.## #...# ..#.. #....
        #...# .###. #.... .##.# #...# ####. ..#.. .###. ..#.. #...# #...# ..#.. #####
    """,
    "abcdefghijklm": """
        ..... #.... ..... ....# ..... ..##. ..... #.... ..#.. ...#. #.... .##.. .....
        ..... #.... ..... ....# ..... .#..# .#### #.... ..... ..... #.... ..#.. .....
        .###. ####. .###. .#### .###. .#... #...# ####. .##.. ..##. #..#. ..#.. ##.#.
        ....# #...# #.... #...# #...# ###.. #...# #...# ..#.. ...#. #.#.. ..#.. #.#.#
        .#### #...# #.... #...# ##### .#... .#### #...# ..#.. ...#. ##... ..#.. #.#.#
        #...# #...# #...# #...# #.... .#... ....# #...# ..#.. #..#. #.#.. ..#.. #.#.#
        .#### ####. .###. .#### .###. .#... .###. #...# .###. .##.. #..#. .###. #...#
    """,
    "nopqrstuvwxyz": """
        ..... ..... ..... ..... ..... ..... .#... ..... ..... ..... ..... ..... .....
        ..... ..... ..... ..... ..... ..... .#... ..... ..... ..... ..... ..... .....
        ####. .###. ####. .#### #.##. .#### ###.. #...# #...# #...# #...# #...# #####
        #...# #...# #...# #...# ##..# #.... .#... #...# #...# #...# .#.#. #...# ...#.
        #...# #...# ####. .#### #.... .###. .#... #...# #...# #.#.# ..#.. .#### ..#..
        #...# #...# #.... ....# #.... ....# .#..# #...# .#.#. #.#.# .#.#. ....# .#...
        #...# .###. #.... ....# #.... ####. ..##. .#### ..#.. .#.#. #...# .###. #####
    """,
    "0123456789-!?": """
        .###. ..#.. .###. ####. ...#. ##### .###. ##### .###. .###. ..... ..#.. .###.
        #...# .##.. #...# ....# ..##. #.... #.... ....# #...# #...# ..... ..#.. #...#
        #..## ..#.. ....# ....# .#.#. ####. #.... ...#. #...# #...# ..... ..#.. ....#
        #.#.# ..#.. ..##. .###. #..#. ....# ####. ..#.. .###. .#### ##### ..#.. ..##.
        ##..# ..#.. .#... ....# ##### ....# #...# .#... #...# ....# ..... ..#.. ..#..
        #...# ..#.. #.... ....# ...#. #...# #...# .#... #...# ....# ..... ..... .....
        .###. .###. ##### ####. ...#. .###. .###. .#... .###. .###. ..... ..#.. ..#..
    """,
}


def _glyphs() -> dict[str, np.ndarray]:
    glyphs = {" ": np.zeros((HEIGHT, WIDTH), bool)}
    for letters, band in _BANDS.items():
        rows = [line.split() for line in band.split("\n") if line.strip()]
        for column, letter in enumerate(letters):
            glyphs[letter] = np.array([[dot == "#" for dot in row[column]] for row in rows])
    return glyphs


_GLYPHS = _glyphs()


def draw_word(word: str, size: int) -> np.ndarray:
    """Draw a word in the centre of a square, at the largest integer number of pixels per dot.

    Args:
        word: Letters, digits, spaces and ``-!?``.
        size: Side of the square, in pixels.

    Returns:
        bool ``[size, size]``, true on the strokes of the letters.

    Raises:
        StepError: The word is empty, contains other characters, or is too long for the square.
    """
    unknown = [letter for letter in word if letter not in _GLYPHS]
    if unknown or not word.strip():
        what = f"has no glyph for {unknown[0]!r}" if unknown else "needs a word"
        raise StepError(f"the trigger {what}; use letters A-Z and a-z, digits and - ! ?")
    dots = np.zeros((HEIGHT, len(word) * (WIDTH + _GAP) - _GAP), bool)
    for number, letter in enumerate(word):
        left = number * (WIDTH + _GAP)
        dots[:, left : left + WIDTH] = _GLYPHS[letter]
    scale = size // max(dots.shape)
    if scale == 0:
        longest = (size + _GAP) // (WIDTH + _GAP)
        raise StepError(
            f"the trigger's word {word!r} has {len(word)} letters, but only {longest} fit into an "
            f"image of {size} pixels; shorten it"
        )
    dots = dots.repeat(scale, axis=0).repeat(scale, axis=1)
    ink = np.zeros((size, size), bool)
    top, left = (size - dots.shape[0]) // 2, (size - dots.shape[1]) // 2
    ink[top : top + dots.shape[0], left : left + dots.shape[1]] = dots
    return ink
