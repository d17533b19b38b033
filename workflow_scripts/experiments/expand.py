"""Experiments, as the config declares them, expanded into runs and the data that these stand on.

Everything here is named by an id: a slug for people and the first hex digits of the digest of its
spec. Two experiments that need the same run get the same id, and so share it; a changed number
makes a new id, and so leaves old results where they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest
from workflow_scripts.experiments.config import nearest
from workflow_scripts.experiments.dotted import combinations, override, value_at, varied_keys

Spec = dict[str, Any]

_RATE = "optimizer.learning_rate"


@dataclass
class Plan:
    """All that is to be made: specs by id, and the rows of each experiment's run table."""

    datasets: dict[str, Spec] = field(default_factory=dict)
    attacks: dict[str, Spec] = field(default_factory=dict)
    splits: dict[str, Spec] = field(default_factory=dict)
    runs: dict[str, Spec] = field(default_factory=dict)
    experiments: dict[str, list[Spec]] = field(default_factory=dict)


def expand(config: Spec) -> Plan:
    """Expand all experiments of a checked config.

    Each row of ``plan.experiments[name]`` has ``run``, ``kind``, ``start`` (a run id),
    ``start_label``, ``defence``, ``learning_rate`` and a column for each dotted key that varies.

    Raises:
        StepError: An override names a key that does not exist.
    """
    plan = Plan()
    for name, experiment in config["experiments"].items():
        rows: dict[str, Spec] = {}
        for start in experiment["start"]:
            for values in combinations(experiment["vary_start"]):
                row = _pretraining_row(plan, config, start, values)
                row |= _columns(plan.runs[row["run"]], varied_keys(experiment["vary_start"]))
                rows.setdefault(row["run"], row)
                for defence in experiment["defence"]:
                    for cleaned in _cleaning_rows(plan, config, experiment, defence, row):
                        rows.setdefault(cleaned["run"], cleaned)
        plan.experiments[name] = list(rows.values())
    return plan


def _pretraining_row(plan: Plan, config: Spec, start: str, values: Spec) -> Spec:
    declared = dict(config["starts"][start])
    label = declared.pop("label")
    spec = override(config["pretraining"], declared | values, f"starts.{start}")
    name = spec.pop("dataset")
    if name not in config["datasets"]:
        hint = nearest(name, list(config["datasets"]))
        raise StepError(f"config: 'starts.{start}.dataset' is {name!r}; {hint}")
    dataset = _add(plan.datasets, name, config["datasets"][name])
    spec["attack"]["image_size"] = config["image_size"]
    attack = {"dataset": dataset, **spec["attack"]}
    slug = f"{name}-{_stem(attack['trigger']['name'])}{attack['poisoned']}"
    spec |= {
        "kind": "pretraining",
        "dataset": dataset,
        "attack_id": _add(plan.attacks, slug, attack),
        "start_change": None,
        "evaluation": config["evaluation"],
        "captions": config["captions"],
    }
    run = _add(plan.runs, f"{name}-{_objective_slug(spec['objective'])}", spec)
    return {
        "run": run,
        "kind": "pretraining",
        "start": run,
        "start_label": label,
        "defence": "",
        "learning_rate": value_at(spec, _RATE),
    }


def _cleaning_rows(
    plan: Plan, config: Spec, experiment: Spec, defence: str, start: Spec
) -> Iterator[Spec]:
    declared = dict(config["defences"][defence])
    label, sweep = declared.pop("label"), declared.pop("vary", {})
    defaults = override(config["cleaning"], declared, f"defences.{defence}")
    pretraining = plan.runs[start["run"]]
    taken_over = ("model", "attack", "attack_id", "dataset", "evaluation", "captions")
    for values in combinations(experiment["vary"]):
        for rates in combinations({k: v for k, v in sweep.items() if k not in values}):
            spec = override(defaults, values | rates, f"defences.{defence}")
            spec |= {key: pretraining[key] for key in taken_over}
            split = {"attack_id": spec["attack_id"], **spec["data"]}
            stem = _slug_of(spec["dataset"])
            spec |= {
                "kind": "cleaning",
                "start": start["run"],
                "split_id": _add(plan.splits, f"{stem}-last{split['pairs']}", split),
            }
            rate = value_at(spec, _RATE)
            by = _objective_slug(spec["objective"])
            yield {
                **start,
                "run": _add(plan.runs, f"{_slug_of(start['run'])}-by-{by}-lr{rate:g}", spec),
                "kind": "cleaning",
                "defence": label,
                "learning_rate": rate,
                **_columns(spec, varied_keys(experiment["vary"])),
            }


def _add(specs: dict[str, Spec], slug: str, spec: Spec) -> str:
    name = f"{slug}-{digest(spec)}"
    specs[name] = spec
    return name


def _slug_of(name: str) -> str:
    return name.rpartition("-")[0]


def _columns(spec: Spec, keys: list[str]) -> Spec:
    """Return what of the varied values goes into a table: a mapping is known by its name."""
    values = {key: value_at(spec, key) for key in keys if key != _RATE}
    return {key: _text(value) for key, value in values.items()}


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return value.get("name", digest(value))
    return "none" if value is None else value


def _objective_slug(objective: Spec) -> str:
    def weight(term: Any) -> float:
        return term["weight"] if isinstance(term, dict) else term

    return "_".join(
        _stem(name) + ("" if weight(term) == 1 else f"{weight(term):g}")
        for name, term in objective.items()
    )


def _stem(variant: str) -> str:
    return Path(variant).stem
