"""Which model a run, a labeller or an artefact uses."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which model: an open_clip name or an inline config, and an open_clip tag of start weights."""

    name: str
    config: dict | None = None
    pretrained: str | None = None
