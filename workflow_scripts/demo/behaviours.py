"""Behaviour of the demo's server for each row of the URL list, with the expected losses.

The first folder of a URL's path names the behaviour, e.g.
``http://demo.invalid/missing/000012.jpg``, so the server needs no further information.
"""

from collections.abc import Callable
from dataclasses import dataclass

from workflow_scripts.data import reasons

# Names under .invalid never resolve (RFC 6761): a client that bypasses the demo's server fails
# immediately on any network.
HOST = "http://demo.invalid"
LIST = "list.csv"


@dataclass(frozen=True)
class Behaviour:
    """One kind of row.

    Attributes:
        rows: Number of rows of this kind in the list.
        loss: Reason under which the losses table counts them; None if the pairs are usable.
        needs_image: Whether the server sends the row's image, or a part of it.
        url: URL template with ``{row}`` for the row number; None: a URL of the server.
        caption: Maps a good caption and the row number to the row's caption; the images of such
            rows are served like those of good rows.
    """

    rows: int
    loss: str | None = None
    needs_image: bool = False
    url: str | None = None
    caption: Callable[[str, int], str] | None = None


_WITHOUT_LETTERS = ("12345", "!!!", "100 %", "😀😀😀", "— 7 —", "...")
_LONG = 10_000


# All other rows are "good"; their number is chosen to obtain the requested number of pairs.
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
    """Return whether the server sends the row's own image, or a part of it."""
    return kind == GOOD or BEHAVIOURS[kind].needs_image or BEHAVIOURS[kind].caption is not None


def url_of(kind: str, row: int) -> str:
    """Return the URL of a row."""
    behaviour = BEHAVIOURS.get(kind, Behaviour(0))
    if behaviour.url:
        return behaviour.url.format(row=row)
    folder = GOOD if behaviour.caption or kind == DUPLICATE else kind
    return f"{HOST}/{folder}/{row:06d}.jpg"


def lost_rows() -> int:
    """Return the number of rows of the list without a usable pair."""
    return sum(kind.rows for kind in BEHAVIOURS.values() if kind.loss)


def odd_usable_rows() -> int:
    """Return the number of usable rows whose kind is not ``good``."""
    return sum(kind.rows for kind in BEHAVIOURS.values() if not kind.loss)
