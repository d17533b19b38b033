"""Views: which augmentation of a pair a loss term uses, and which model embeds it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from workflow_scripts.common.errors import StepError, nearest

TEXTS = ("plain", "eda")


@dataclass(frozen=True)
class View:
    """One view of the pairs of a batch.

    Attributes:
        image: The augmentation of the image, a variant's name or ``{"name": ..., options}``; None
            if the image is not used.
        text: ``plain`` for the caption itself or ``eda`` for its stored augmentation; None if the
            caption is not used.
        by_start: Embed with the start model, in evaluation mode and without gradients, instead of
            the trained model.
        draw: Views of the same augmentation with different numbers are drawn independently.
    """

    image: str | Mapping[str, Any] | None = None
    text: str | None = None
    by_start: bool = False
    draw: int = 0


PLAIN = View(image="plain", text="plain")
AUGMENTED = View(image="autoaugment", text="eda")


@dataclass(frozen=True)
class Source:
    """An augmented image to load: the augmentation's declaration (JSON) and the draw."""

    augmentation: str
    draw: int = 0

    def declaration(self) -> dict[str, Any]:
        """Return the ``name`` and options of the augmentation."""
        return json.loads(self.augmentation)


@dataclass(frozen=True)
class Column:
    """One pass of a tower over a batch: the image source or kind of text, and the model."""

    source: Source | str
    by_start: bool


@dataclass(frozen=True)
class Embedded:
    """The embeddings of a view: float32 [n, d] with unit norm, None if not used.

    Typed as Any instead of None, because a loss term knows which modalities its views use.
    """

    images: Tensor | Any
    texts: Tensor | Any


class Views:
    """The union of the views of several loss terms; each view is loaded and embedded once.

    Args:
        declared: For each term, its views by name.

    Attributes:
        images: The image sources to load.
        texts: The kinds of text to load.
        columns: The tower passes: images and texts of the trained model, then of the start model.

    Raises:
        StepError: A view names an unknown kind of text, or has neither image nor text.
    """

    def __init__(self, declared: Iterable[Mapping[str, View]]):
        self.declared = [dict(views) for views in declared]
        columns = [c for views in self.declared for v in views.values() for c in _columns(v)]
        # Run both towers: DistributedDataParallel waits for the gradients of all parameters.
        for plain in _columns(PLAIN):
            others = [c for c in columns if not c.by_start]
            if not any(type(c.source) is type(plain.source) for c in others):
                columns.append(plain)
        columns = sorted(dict.fromkeys(columns), key=_order)
        self.columns = columns
        self.images = list(dict.fromkeys(c.source for c in columns if isinstance(c.source, Source)))
        self.texts = list(dict.fromkeys(c.source for c in columns if isinstance(c.source, str)))

    @property
    def trained(self) -> list[Column]:
        """The columns embedded by the trained model."""
        return [column for column in self.columns if not column.by_start]

    @property
    def by_start(self) -> list[Column]:
        """The columns embedded by the start model."""
        return [column for column in self.columns if column.by_start]

    def of_terms(self, embeddings: Tensor) -> list[dict[str, Embedded]]:
        """Return the embedded views of each term, by name.

        Args:
            embeddings: float32 [n, d * len(columns)], in the order of ``columns``.
        """
        parts = embeddings.chunk(len(self.columns), dim=1)
        by_column = dict(zip(self.columns, parts, strict=True))
        return [
            {name: _embedded(view, by_column) for name, view in views.items()}
            for views in self.declared
        ]


def _columns(view: View) -> list[Column]:
    if view.text not in (None, *TEXTS):
        raise StepError(f"unknown text of a view: {view.text!r}; {nearest(view.text, TEXTS)}")
    if view.image is None and view.text is None:
        raise StepError("a view has neither image nor text; give it one or both")
    sources = [source for source in (_source(view), view.text) if source is not None]
    return [Column(source, view.by_start) for source in sources]


def _source(view: View) -> Source | None:
    if view.image is None:
        return None
    declared = {"name": view.image} if isinstance(view.image, str) else dict(view.image)
    return Source(json.dumps(declared, sort_keys=True), view.draw)


def _order(column: Column) -> tuple[bool, bool, bool]:
    # Plain views first: batch norm sums in this order, which affects rounding.
    plain = column.source == "plain" or column.source == _source(PLAIN)
    return column.by_start, isinstance(column.source, str), not plain


def _embedded(view: View, by_column: Mapping[Column, Tensor]) -> Embedded:
    def of(source: Source | str | None) -> Tensor | None:
        return None if source is None else by_column[Column(source, view.by_start)]

    return Embedded(of(_source(view)), of(view.text))
