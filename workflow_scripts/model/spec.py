"""The model of a run or an artefact."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model: an open_clip name or an inline config; and weights, an open_clip tag or a file."""

    name: str
    config: dict | None = None
    pretrained: str | None = None
