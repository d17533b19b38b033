"""What loss terms look at: which augmentation of a pair, embedded by which model."""

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
            if the image is not looked at.
        text: ``plain`` or ``eda``, the caption as it is or as augmented once and stored; None if
            the caption is not looked at.
        by_start: Embedded by the model that the run starts from, in evaluation mode and without
            gradients, instead of by the one that is trained.
        draw: Views of the same augmentation with other numbers are drawn independently.
    """

    image: str | Mapping[str, Any] | None = None
    text: str | None = None
    by_start: bool = False
    draw: int = 0


PLAIN = View(image="plain", text="plain")
AUGMENTED = View(image="autoaugment", text="eda")


@dataclass(frozen=True)
class Source:
    """What is loaded for a view: an augmented image, by its declaration in JSON and its draw."""

    augmentation: str
    draw: int = 0

    def declaration(self) -> dict[str, Any]:
        """Return the ``name`` and the options of the augmentation."""
        return json.loads(self.augmentation)


@dataclass(frozen=True)
class Column:
    """One tower pass over a batch: an image source or a kind of text, and by which model."""

    source: Source | str
    by_start: bool


@dataclass(frozen=True)
class Embedded:
    """The embeddings of a view: float32 [n, d] of unit norm each, None if not looked at.

    Any stands for None: a loss term knows what its views look at.
    """

    images: Tensor | Any
    texts: Tensor | Any


class Views:
    """The union of the views of several loss terms: each is loaded and embedded once.

    Args:
        declared: For each term, its views by name.

    Attributes:
        images: The image sources to load.
        texts: The kinds of text to load.
        columns: The tower passes: images of the trained model, its texts, then those of the start.

    Raises:
        StepError: A view names a text that does not exist, or looks at nothing.
    """

    def __init__(self, declared: Iterable[Mapping[str, View]]):
        self.declared = [dict(views) for views in declared]
        columns = [c for views in self.declared for v in views.values() for c in _columns(v)]
        # Both towers take part: a process group waits for the gradients of all parameters.
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
        """Those that the trained model embeds."""
        return [column for column in self.columns if not column.by_start]

    @property
    def by_start(self) -> list[Column]:
        """Those that the start model embeds."""
        return [column for column in self.columns if column.by_start]

    def of_terms(self, embeddings: Tensor) -> list[dict[str, Embedded]]:
        """Return for each term its views by name.

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
        raise StepError(f"a view has the text {view.text!r}; {nearest(view.text, TEXTS)}")
    if view.image is None and view.text is None:
        raise StepError("a view looks at nothing: give it an image, a text or both")
    sources = [source for source in (_source(view), view.text) if source is not None]
    return [Column(source, view.by_start) for source in sources]


def _source(view: View) -> Source | None:
    if view.image is None:
        return None
    declared = {"name": view.image} if isinstance(view.image, str) else dict(view.image)
    return Source(json.dumps(declared, sort_keys=True), view.draw)


def _order(column: Column) -> tuple[bool, bool, bool]:
    # The plain ones first: batch norm adds up in this order.
    plain = column.source == "plain" or column.source == _source(PLAIN)
    return column.by_start, isinstance(column.source, str), not plain


def _embedded(view: View, by_column: Mapping[Column, Tensor]) -> Embedded:
    def of(source: Source | str | None) -> Tensor | None:
        return None if source is None else by_column[Column(source, view.by_start)]

    return Embedded(of(_source(view)), of(view.text))
