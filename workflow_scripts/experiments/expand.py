"""Experiments, as the config declares them, expanded into runs and the data that these stand on.

Everything here is named by an id: a slug for people and the first hex digits of the digest of its
spec. Two experiments that need the same run get the same id, and so share it; a changed number
makes a new id, and so leaves old results where they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.common.files import digest
from workflow_scripts.experiments.dotted import combinations, override, value_at, varied_keys

Spec = dict[str, Any]

_RATE = "optimizer.learning_rate"
# In a grid, no key of the spec but the name that a combination of values goes by.
_VARIANT = "variant"


@dataclass
class Plan:
    """All that is to be made: specs by id, and the rows of each experiment's run table."""

    datasets: dict[str, Spec] = field(default_factory=dict)
    attacks: dict[str, Spec] = field(default_factory=dict)
    splits: dict[str, Spec] = field(default_factory=dict)
    labels: dict[str, Spec] = field(default_factory=dict)
    runs: dict[str, Spec] = field(default_factory=dict)
    experiments: dict[str, list[Spec]] = field(default_factory=dict)


def expand(config: Spec) -> Plan:
    """Expand all experiments of a checked config.

    Each row of ``plan.experiments[name]`` has ``run``, ``kind`` (pretraining, cleaning or
    baseline), ``start`` (a run id), ``start_label``, ``defence``, ``learning_rate`` and a column
    for each dotted key that varies. A baseline is the twin of its ``start`` without poison.

    Raises:
        StepError: An override names a key that does not exist, or a start goes on from itself.
    """
    plan = Plan()
    for name, experiment in config["experiments"].items():
        rows: dict[tuple[str, str, str], Spec] = {}
        varied = varied_keys(experiment["vary_start"])
        for start in experiment["start"]:
            for values in combinations(experiment["vary_start"]):
                row = _start_row(plan, config, start, values)
                row |= _columns(plan.runs[row["run"]] | values, varied)
                made = [row]
                if start in experiment["baseline"]:
                    unpoisoned = values | {"attack.poisoned": 0}
                    twin = _pretraining(plan, config, start, unpoisoned)
                    made.append(row | {"run": twin, "kind": "baseline"})
                for defence in experiment["defence"]:
                    made += _cleaning_rows(plan, config, experiment, defence, row)
                for each in made:
                    # One model without poison may be the twin of several starts.
                    rows.setdefault((each["run"], each["kind"], each["start"]), each)
        plan.experiments[name] = list(rows.values())
    return plan


def _start_row(plan: Plan, config: Spec, start: str, values: Spec) -> Spec:
    run = _pretraining(plan, config, start, values)
    return {
        "run": run,
        "kind": "pretraining",
        "start": run,
        "start_label": config["starts"][start]["label"],
        "defence": "",
        "learning_rate": value_at(plan.runs[run], _RATE),
    }


def _pretraining(
    plan: Plan, config: Spec, start: str, values: Spec, on_the_way: tuple[str, ...] = ()
) -> str:
    """Add the run of a start, and those that it goes on from; return its id."""
    if start in on_the_way:
        raise StepError(f"config: 'starts.{start}.continues' leads back to {start!r} itself")
    declared = {k: v for k, v in config["starts"][start].items() if k != "label"}
    values = {k: v for k, v in values.items() if k != _VARIANT}
    spec = override(config["pretraining"], declared | values, f"starts.{start}")
    name, continues = spec.pop("dataset"), spec.pop("continues")
    _declared("datasets", name, config, f"starts.{start}.dataset")
    dataset = _add(plan.datasets, name, config["datasets"][name])
    spec["attack"]["image_size"] = config["image_size"]
    attack = {"dataset": dataset, **spec["attack"]}
    slug = f"{name}-{_stem(attack['trigger']['name'])}{attack['poisoned']}"
    spec |= {
        "kind": "pretraining",
        "dataset": dataset,
        "attack_id": _add(plan.attacks, slug, attack),
        "start": None,
        "start_change": None,
        "evaluation": config["evaluation"],
        "captions": config["captions"],
    }
    if continues is not None:
        _declared("starts", continues, config, f"starts.{start}.continues")
        spec["start"] = _pretraining(plan, config, continues, {}, (*on_the_way, start))
    return _add(plan.runs, f"{name}-{_objective_slug(spec['objective'])}", spec)


def _cleaning_rows(
    plan: Plan, config: Spec, experiment: Spec, defence: str, start: Spec
) -> Iterator[Spec]:
    declared = dict(config["defences"][defence])
    label, sweep = declared.pop("label"), declared.pop("vary", {})
    defaults = override(config["cleaning"], declared, f"defences.{defence}")
    # A column is there for all defences of the experiment, or a table would lack it for some.
    sweeps = [config["defences"][name].get("vary", {}) for name in experiment["defence"]]
    varied = dict.fromkeys(
        key for grids in (experiment["vary"], *sweeps) for key in varied_keys(grids)
    )
    pretraining = plan.runs[start["run"]]
    taken_over = ("model", "attack", "attack_id", "dataset", "evaluation", "captions")
    for values in combinations(experiment["vary"]):
        for rates in combinations({k: v for k, v in sweep.items() if k not in values}):
            settings = {k: v for k, v in (values | rates).items() if k != _VARIANT}
            spec = override(defaults, settings, f"defences.{defence}")
            spec |= {key: pretraining[key] for key in taken_over}
            split = {"attack_id": spec["attack_id"], **spec["data"]}
            stem, chosen = _slug_of(spec["dataset"]), split.get("choose") or "last"
            spec |= {
                "kind": "cleaning",
                "start": start["run"],
                "split_id": _add(plan.splits, f"{stem}-{chosen}{split['pairs']}", split),
            }
            spec["labels_id"] = _labels(plan, config, spec, spec.pop("labeller"))
            rate = value_at(spec, _RATE)
            by = _objective_slug(spec["objective"])
            yield {
                **start,
                "run": _add(plan.runs, f"{_slug_of(start['run'])}-by-{by}-lr{rate:g}", spec),
                "kind": "cleaning",
                "defence": label,
                "learning_rate": rate,
                **_columns(spec | values, list(varied)),
            }


def _labels(plan: Plan, config: Spec, spec: Spec, labeller: str | None) -> str | None:
    """Add the labels that a stronger model gives to a split's images; return their id."""
    if labeller is None:
        return None
    _declared("labellers", labeller, config, "cleaning.labeller")
    model, run = config["labellers"][labeller].get("model"), None
    if model is None:
        run = _pretraining(plan, config, config["labellers"][labeller]["start"], {})
        model = plan.runs[run]["model"]
    labels = {
        "split_id": spec["split_id"],
        "evaluation": spec["evaluation"],
        "model": model,
        "run": run,
    }
    return _add(plan.labels, f"{_slug_of(spec['split_id'])}-by-{labeller}", labels)


def _declared(section: str, name: str, config: Spec, place: str) -> None:
    if name not in config[section]:
        raise StepError(f"config: {place!r} is {name!r}; {nearest(name, list(config[section]))}")


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
