"""What people read of a run: the slug of its id, and its varied values in tables."""

from typing import Any

from workflow_scripts.common.files import digest
from workflow_scripts.experiments.dotted import value_at
from workflow_scripts.experiments.identity import stem_of

Spec = dict[str, Any]

RATE = "optimizer.learning_rate"


def cleaning_slug(spec: Spec) -> str:
    """Return the slug of a way of cleaning: objective and rate, or the start change alone."""
    if spec["epochs"] == 0:
        return stem_of(spec["start_change"]["name"])
    return f"{objective_slug(spec['objective'])}-lr{value_at(spec, RATE):g}"


def objective_slug(objective: Spec) -> str:
    """Return the loss terms, each with its weight unless that is 1."""

    def weight(term: Any) -> float:
        return term["weight"] if isinstance(term, dict) else term

    return "_".join(
        stem_of(name) + ("" if weight(objective[name]) == 1 else f"{weight(objective[name]):g}")
        for name in sorted(objective)
    )


def columns(spec: Spec, keys: list[str]) -> Spec:
    """Return what of the varied values goes into a table: a mapping is known by its name."""
    values = {key: value_at(spec, key) for key in keys if key != RATE}
    return {key: _text(value) for key, value in values.items()}


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return value.get("name", digest(value))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)} parts"
    return "none" if value is None else value
