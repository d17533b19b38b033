"""Experiments, as the config declares them, expanded into runs and the data that these stand on.

Everything here is named by an id: a slug for people and the first hex digits of the digest of its
spec. Two experiments that need the same run get the same id, and so share it; a changed number
makes a new id, and so leaves old results where they are.
"""

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest
from workflow_scripts.experiments.config import nearest

Spec = dict[str, Any]

# Under these keys the names are open: loss terms, a trigger's and a start change's options.
_OPEN = {"objective", "trigger", "start_change"}


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
            for values in _grid(experiment["vary_start"]):
                row = _add_pretraining(plan, config, start, values)
                rows.setdefault(row["run"], row)
                for defence in experiment["defence"]:
                    for cleaned in _add_cleaning(plan, config, experiment, defence, row):
                        rows.setdefault(cleaned["run"], cleaned)
        plan.experiments[name] = list(rows.values())
    return plan


def _add_pretraining(plan: Plan, config: Spec, start: str, values: Spec) -> Spec:
    overrides = {k: v for k, v in config["starts"][start].items() if k != "label"} | values
    spec = override(config["pretraining"], overrides, f"starts.{start}")
    spec["attack"]["image_size"] = config["image_size"]
    dataset_name = spec["dataset"]
    if dataset_name not in config["datasets"]:
        hint = nearest(dataset_name, list(config["datasets"]))
        raise StepError(f"config: 'starts.{start}.dataset' is {dataset_name!r}; {hint}")
    spec["dataset"] = _add(plan.datasets, dataset_name, dict(config["datasets"][dataset_name]))
    attack = {"dataset": spec["dataset"], **spec["attack"]}
    slug = f"{dataset_name}-{_stem(attack['trigger']['name'])}{attack['poisoned']}"
    spec = {
        "kind": "pretraining",
        "attack_id": _add(plan.attacks, slug, attack),
        **spec,
        "start_change": None,
        "evaluation": config["evaluation"],
        "captions": config["captions"],
    }
    run = _add(plan.runs, f"{dataset_name}-{_objective_slug(spec['objective'])}", spec)
    return {
        "run": run,
        "kind": "pretraining",
        "start": run,
        "start_label": config["starts"][start]["label"],
        "defence": "",
        "learning_rate": spec["optimizer"]["learning_rate"],
        **_columns(values),
    }


def _add_cleaning(
    plan: Plan, config: Spec, experiment: Spec, defence: str, start: Spec
) -> Iterator[Spec]:
    declared = config["defences"][defence]
    base = override(
        config["cleaning"],
        {k: v for k, v in declared.items() if k not in ("label", "vary")},
        f"defences.{defence}",
    )
    varied = experiment["vary"]
    pretraining = plan.runs[start["run"]]
    for values in _grid(declared.get("vary", {}) | varied):
        spec = override(base, values, f"defences.{defence}.vary")
        split = {"attack_id": pretraining["attack_id"], **spec["data"]}
        split_id = _add(
            plan.splits, f"{pretraining['dataset'].rpartition('-')[0]}-last{split['pairs']}", split
        )
        spec = {
            "kind": "cleaning",
            "start": start["run"],
            "split_id": split_id,
            **spec,
            **{
                k: pretraining[k]
                for k in ("model", "attack", "attack_id", "evaluation", "captions")
            },
        }
        rate = spec["optimizer"]["learning_rate"]
        slug = (
            f"{start['run'].rpartition('-')[0]}-by-{_objective_slug(spec['objective'])}-lr{rate:g}"
        )
        yield {
            **start,
            "run": _add(plan.runs, slug, spec),
            "kind": "cleaning",
            "defence": declared["label"],
            "learning_rate": rate,
            **_columns({key: values[key] for key in varied}),
        }


def _add(specs: dict[str, Spec], slug: str, spec: Spec) -> str:
    name = f"{slug}-{digest(spec)}"
    specs[name] = spec
    return name


def override(defaults: Spec, overrides: Spec, place: str) -> Spec:
    """Return a copy of ``defaults`` in which each dotted key has its new value.

    Raises:
        StepError: There is no such key in the defaults.
    """
    spec = copy.deepcopy(defaults)
    for dotted, value in overrides.items():
        *path, last = dotted.split(".")
        node: Any = spec
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (last not in node and not _OPEN & set(path)):
            hint = nearest(dotted, list(_dotted_keys(defaults)))
            raise StepError(f"config: {f'{place}.{dotted}'!r} is not a key; {hint}")
        node[last] = copy.deepcopy(value)
    return spec


def _dotted_keys(spec: Spec, prefix: str = "") -> Iterator[str]:
    for key, value in spec.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _dotted_keys(value, f"{prefix}{key}.")


def _grid(varied: Spec) -> Iterator[Spec]:
    for values in itertools.product(*varied.values()):
        yield dict(zip(varied, values, strict=True))


def _columns(values: Spec) -> Spec:
    """Return what of the varied values goes into a table: a mapping is known by its name."""
    return {
        key: value.get("name", digest(value)) if isinstance(value, dict) else value
        for key, value in values.items()
        if key != "optimizer.learning_rate"
    }


def _objective_slug(objective: Spec) -> str:
    def weight(term: Any) -> float:
        return term["weight"] if isinstance(term, dict) else term

    return "_".join(
        _stem(name) + ("" if weight(term) == 1 else f"{weight(term):g}")
        for name, term in objective.items()
    )


def _stem(variant: str) -> str:
    return variant.rpartition("/")[2].removesuffix(".py")
