"""How the demo's server treats a row of the URL list: the truth that the losses table must find.

The first folder of a URL's path names the behaviour, ``http://demo.invalid/missing/000012.jpg``,
so that the list alone tells the server what to do.
"""

from collections.abc import Callable
from dataclasses import dataclass

from workflow_scripts.data import reasons

# Names under .invalid belong to nobody (RFC 6761): a client that does not go through the demo's
# server finds nothing, at once, whatever network it is on.
HOST = "http://demo.invalid"
LIST = "list.csv"


@dataclass(frozen=True)
class Behaviour:
    """One kind of row.

    Attributes:
        rows: How many rows of the list are of this kind.
        loss: The reason under which the losses table counts them; none if the pair is usable.
        needs_image: The server sends the row's picture, or a part of it.
        url: Of the row, with ``{row}`` for its number; by default the server's own.
        caption: Makes the row's caption of a good one and the row's number; such a row's
            picture is served like any good one.
    """

    rows: int
    loss: str | None = None
    needs_image: bool = False
    url: str | None = None
    caption: Callable[[str, int], str] | None = None


_WITHOUT_LETTERS = ("12345", "!!!", "100 %", "😀😀😀", "— 7 —", "...")
_LONG = 10_000


# "good" is every other row: as many as it takes to have the number of pairs asked for.
BEHAVIOURS: dict[str, Behaviour] = {
    "moved": Behaviour(15, needs_image=True),
    "missing": Behaviour(40, reasons.NOT_FOUND),
    "unavailable": Behaviour(10, reasons.HTTP_ERROR),
    "disallowed": Behaviour(4, reasons.DISALLOWED, needs_image=True),
    "silent": Behaviour(3, reasons.TIMEOUT),
    "stalled": Behaviour(2, reasons.TIMEOUT, needs_image=True),
    "circular": Behaviour(3, reasons.BAD_REDIRECT),
    "to_a_file": Behaviour(3, reasons.BAD_REDIRECT),
    "cut_off": Behaviour(4, reasons.CUT_OFF, needs_image=True),
    "endless": Behaviour(2, reasons.TOO_MANY_BYTES),
    "empty": Behaviour(5, reasons.EMPTY),
    "html": Behaviour(12, reasons.NOT_AN_IMAGE),
    "truncated": Behaviour(12, reasons.BROKEN, needs_image=True),
    "tiny": Behaviour(8, reasons.TOO_SMALL),
    "huge": Behaviour(2, reasons.TOO_LARGE),
    "duplicate": Behaviour(25, reasons.DUPLICATE),
    "no_url": Behaviour(3, reasons.MALFORMED, url=" "),
    "file_url": Behaviour(5, reasons.NOT_HTTP, url="file:///etc/hostname?{row}"),
    "ftp_url": Behaviour(2, reasons.NOT_HTTP, url="ftp://demo.invalid/good/{row:06d}.jpg"),
    "no_caption": Behaviour(6, reasons.NO_LETTERS, caption=lambda good, row: " " * (row % 2)),
    "no_letters": Behaviour(
        6,
        reasons.NO_LETTERS,
        caption=lambda good, row: _WITHOUT_LETTERS[row % len(_WITHOUT_LETTERS)],
    ),
    "tab": Behaviour(6, caption=lambda good, row: good.replace(" ", "\t", 1)),
    "quotes": Behaviour(6, caption=lambda good, row: f'"{good}", she said; it\'s 6" wide'),
    "emoji": Behaviour(6, caption=lambda good, row: f"🎨 {good} 😀"),
    "long": Behaviour(2, caption=lambda good, row: (f"{good}. " * _LONG)[:_LONG]),
}
GOOD = "good"
DUPLICATE = "duplicate"


def has_picture(kind: str) -> bool:
    """Return whether the server sends the row's own picture, or a part of it."""
    return kind == GOOD or BEHAVIOURS[kind].needs_image or BEHAVIOURS[kind].caption is not None


def url_of(kind: str, row: int) -> str:
    """Return the URL of a row."""
    behaviour = BEHAVIOURS.get(kind, Behaviour(0))
    if behaviour.url:
        return behaviour.url.format(row=row)
    folder = GOOD if behaviour.caption or kind == DUPLICATE else kind
    return f"{HOST}/{folder}/{row:06d}.jpg"


def lost_rows() -> int:
    """Return how many rows of the list come to nothing."""
    return sum(kind.rows for kind in BEHAVIOURS.values() if kind.loss)


def odd_usable_rows() -> int:
    """Return how many usable rows are not simply good."""
    return sum(kind.rows for kind in BEHAVIOURS.values() if not kind.loss)
