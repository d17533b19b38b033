"""Readable names: slugs of ids, and varied values in tables."""

import itertools
from typing import Any

from workflow_scripts.common.attacks import captions_of, parts_of
from workflow_scripts.common.files import digest
from workflow_scripts.experiments.dotted import value_at, varied_keys
from workflow_scripts.experiments.identity import stem_of

Spec = dict[str, Any]

RATE = "optimizer.learning_rate"
CAPTIONS = "attack.captions"


def cleaning_slug(spec: Spec) -> str:
    """Return the slug of a cleaning run: objective and learning rate, or only the start change."""
    if spec["epochs"] == 0:
        return stem_of(spec["start_change"]["name"])
    return f"{objective_slug(spec['objective'])}-lr{value_at(spec, RATE):g}"


def objective_slug(objective: Spec) -> str:
    """Return the slug of an objective: its loss terms, each with its weight unless that is 1."""

    def weight(term: Any) -> float:
        return term["weight"] if isinstance(term, dict) else term

    return "_".join(
        stem_of(name) + ("" if weight(objective[name]) == 1 else f"{weight(objective[name]):g}")
        for name in sorted(objective)
    )


def cleaning_keys(config: Spec, experiment: Spec) -> list[str]:
    """Return the keys that the cleaning runs of an experiment vary, its defences' sweeps included.

    All defences of an experiment have the same columns.
    """
    sweeps = [config["defences"][name].get("vary", {}) for name in experiment["defence"]]
    keys = [varied_keys(grids) for grids in (experiment["vary"], *sweeps)]
    return list(dict.fromkeys(itertools.chain(*keys)))


def start_columns(config: Spec, experiment: Spec) -> dict[str, str]:
    """Return the column of each key that the start models of an experiment vary.

    It is the key, or ``start.<key>`` if the cleaning runs vary the same key.
    """
    cleaned = cleaning_keys(config, experiment)
    keys = varied_keys(experiment["vary_start"])
    return {key: f"start.{key}" if key in cleaned else key for key in keys}


def columns(spec: Spec, keys: list[str]) -> Spec:
    """Return the columns of varied values, except the learning rate; mappings become names."""
    values = {key: value_at(spec, key) for key in keys if key != RATE}
    if CAPTIONS in values and values[CAPTIONS] is None:
        names = (captions_of(part)[0] for part in parts_of(spec["attack"]))
        values[CAPTIONS] = ", ".join(dict.fromkeys(names))
    return {key: column_value(value) for key, value in values.items()}


def column_value(value: Any) -> Any:
    """Return a varied value as it appears in tables: a mapping by its name."""
    if isinstance(value, dict):
        return value.get("name", digest(value))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)} parts"
    return "none" if value is None else value
