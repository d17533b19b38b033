"""Expands the experiments of the config into runs and the data that they need.

Everything is named by an id (see identity.py). Two experiments that need the same run get the same
id and share the run; a changed setting gives a new id and leaves the old results in place.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.columns import KNOWLEDGE_COLUMN, SWEEP_COLUMN
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest
from workflow_scripts.experiments.artefacts import START, ArtefactContext, Artefacts, needed
from workflow_scripts.experiments.attacks import attack_slug, by_content, canonical_attack
from workflow_scripts.experiments.dotted import combinations, override, value_at, varied_keys
from workflow_scripts.experiments.identity import make_id, normalized, options_of, slug_of
from workflow_scripts.experiments.layers import VARIANT, check_declared
from workflow_scripts.experiments.measures import add_measures, add_of_each_epoch
from workflow_scripts.experiments.own_inputs import OwnInputs
from workflow_scripts.experiments.references import ARTEFACT, references
from workflow_scripts.experiments.slugs import (
    RATE,
    cleaning_keys,
    cleaning_slug,
    columns,
    objective_slug,
    start_columns,
)
from workflow_scripts.experiments.sources import Data

Spec = dict[str, Any]

# Keys of a defence's own sweep that are no settings to choose among: the learning rate, which has
# its own column, the name of a combination, seeds, and the budget.
_NOT_TRIED = (RATE, VARIANT, "seed", "data.seed", "epochs", "data.pairs")


@dataclass
class Plan:
    """The expanded config: specs by id, and the rows of each experiment's run table.

    Attributes:
        data: Lists, sources, datasets and evaluation sets.
        artefacts: Artefacts.
        attacks: Specs of attacks, each with its ``dataset``.
        splits: Specs of clean splits, each with its ``attack_id``.
        captions: Settings of tokens and augmented captions.
        filters: Specs of filters of an attack's pairs, each with its ``attack_id``.
        runs: Specs of pre-training and cleaning runs.
        models: Models that cleaning starts from, each an epoch of a pre-training run. The id is
            also the folder below ``pretraining/``; the values are ``run``, ``taken`` (``last``, an
            epoch, ``best_accuracy`` or ``nearest_accuracy``) and ``reference`` (the model whose
            accuracy is matched, or None).
        experiments: Rows of each experiment's run table; see :func:`expand`.
        reports: Rows of each experiment's table of artefacts.
        measures: Specs of measures, each with its data.
        measured: A row for each model and measure of each experiment with measures (see
            measures.py).
    """

    data: Data
    artefacts: Artefacts = field(init=False)
    attacks: dict[str, Spec] = field(default_factory=dict)
    splits: dict[str, Spec] = field(default_factory=dict)
    captions: dict[str, Spec] = field(default_factory=dict)
    filters: dict[str, Spec] = field(default_factory=dict)
    runs: dict[str, Spec] = field(default_factory=dict)
    models: dict[str, Spec] = field(default_factory=dict)
    experiments: dict[str, list[Spec]] = field(default_factory=dict)
    reports: dict[str, list[Spec]] = field(default_factory=dict)
    measures: dict[str, Spec] = field(default_factory=dict)
    measured: dict[str, list[Spec]] = field(default_factory=dict)


def own_inputs(config: Spec, trusted: bool = False) -> OwnInputs:
    """Return the fingerprints of the user's own files, as stored with the results."""
    memory = Path(config["pathvars"]["results"], "workflow", "own_inputs.json")
    return OwnInputs(memory, trusted)


def expand(config: Spec, inputs: OwnInputs | None = None) -> Plan:
    """Expand all experiments of a checked config.

    Each row of ``plan.experiments[name]`` has ``run``, ``kind`` (pretraining, cleaning or
    baseline), ``start`` (a model id), ``start_label``, ``defence``, ``learning_rate``, a column
    for each dotted key that varies (see :func:`slugs.start_columns`), ``folder``, relative to the
    results, ``SWEEP_COLUMN`` and ``KNOWLEDGE_COLUMN``. A baseline is the clean control of its
    ``start``. Each row of ``plan.reports[name]`` has ``artefact`` (its name), ``id``, ``start``,
    ``start_label``, and the columns that vary.

    Args:
        config: The checked config.
        inputs: Fingerprints of the user's own files; by default those stored with the results.

    Raises:
        StepError: An override names a key that does not exist, a start continues from itself, or
            an artefact is not declared or depends on something made later.
    """
    plan = Plan(Data(config, inputs or own_inputs(config)))
    plan.artefacts = _artefacts(plan, config)
    for name, experiment in config["experiments"].items():
        rows: dict[tuple[str, str, str], Spec] = {}
        reports: list[Spec] = []
        varied = varied_keys(experiment["vary_start"])
        names = start_columns(config, experiment)
        for start in experiment["start"]:
            for values in combinations(experiment["vary_start"]):
                row = _start_row(plan, config, start, values)
                found = columns(plan.runs[row["run"]] | values, varied)
                row |= {names[key]: value for key, value in found.items()}
                reports += _report_rows(plan, config, name, row, list(names.values()))
                made = [row]
                if start in experiment["baseline"]:
                    control = _model(plan, config, start, values | {"attack.poisoned": 0})
                    made.append(row | _of_model(plan, control) | {"kind": "baseline"})
                for defence in experiment["defence"]:
                    made += _cleaning_rows(plan, config, experiment, defence, row)
                for each in made:
                    # Several starts may share a clean control.
                    rows.setdefault((each["run"], each["kind"], each["start"]), each)
        plan.experiments[name], plan.reports[name] = list(rows.values()), reports
    add_measures(plan, config, lambda run: _default_split(plan, config, run))
    return plan


def _artefacts(plan: Plan, config: Spec) -> Artefacts:
    def model_of(start: str, place: str, resolving: tuple[str, ...]) -> str:
        check_declared(place, start, config["starts"])
        return _model(plan, config, start, {}, resolving)

    def context_of(model: str, place: str, data: Spec) -> ArtefactContext:
        return _context(plan, model, place, data)

    def split_of(attack: str, data: Spec) -> str:
        stem = slug_of(plan.attacks[attack]["dataset"])
        return _split(plan, stem, {"attack_id": attack, "data": data})

    return Artefacts(config, model_of, context_of, split_of, plan.data.inputs)


def _context(plan: Plan, model: str, place: str, data: Spec) -> ArtefactContext:
    """Return the context of artefacts that a user of a model refers to."""
    run = plan.runs[plan.models[model]["run"]]
    return ArtefactContext(place, run["dataset"], run["attack_id"], model, data, run["evaluation"])


def _report_rows(
    plan: Plan, config: Spec, experiment: str, start: Spec, varied: list[str]
) -> Iterator[Spec]:
    place = f"experiments.{experiment}.artefacts"
    context = _context(plan, start["start"], place, config["cleaning"]["data"])
    shared = {key: start[key] for key in ("start", "start_label", *varied) if key in start}
    for name in config["experiments"][experiment].get("artefacts", ()):
        yield {"artefact": name, "id": plan.artefacts.artefact(name, context), **shared}


def _start_row(plan: Plan, config: Spec, start: str, values: Spec) -> Spec:
    model = _model(plan, config, start, values)
    return {
        **_of_model(plan, model),
        "kind": "pretraining",
        "start": model,
        "start_label": config["starts"][start]["label"],
        "defence": "",
        "learning_rate": value_at(plan.runs[plan.models[model]["run"]], RATE),
    }


def _of_model(plan: Plan, model: str) -> Spec:
    return {"run": plan.models[model]["run"], "folder": f"pretraining/{model}"}


def _model(
    plan: Plan, config: Spec, start: str, values: Spec, resolving: tuple[str, ...] = ()
) -> str:
    """Add the run of a start, the models that it needs, and its model; return the model's id."""
    declared = {k: v for k, v in config["starts"][start].items() if k != "label"}
    values = {k: v for k, v in values.items() if k != VARIANT}
    spec = override(config["pretraining"], declared | values, f"starts.{start}")
    dataset, continues, taken = (spec.pop(k) for k in ("dataset", "continues", "start_epoch"))
    check_declared(f"starts.{start}.dataset", dataset, config["datasets"])
    spec["attack"]["image_size"] = config["image_size"]
    dataset_id = plan.data.dataset(dataset)
    evaluation_id = plan.data.evaluation(config["evaluation"])
    here = (*resolving, f"starts.{start}")

    def other(name: str, key: str) -> str:
        check_declared(f"starts.{start}.{key}", name, config["starts"])
        if f"starts.{name}" in here:
            raise StepError(
                f"config: 'starts.{start}.{key}' leads back to {name!r}; name another start"
            )
        return _model(plan, config, name, {}, here)

    before = None if continues is None else other(continues, "continues")
    context = ArtefactContext(
        f"starts.{start}.attack",
        dataset_id,
        attack=None,
        start=before,
        data=config["cleaning"]["data"],
        evaluation=evaluation_id,
        resolving=here,
    )
    spec["attack"], attack_id = _attack(plan, spec["attack"], dataset, context)
    spec |= {
        "kind": "pretraining",
        "dataset": dataset_id,
        "attack_id": attack_id,
        "evaluation": evaluation_id,
        "captions_id": _captions(plan, config),
        "start": before,
        "start_change": None,
        "labels_id": None,
    }
    context = replace(context, attack=attack_id)
    for key in ("objective", "filter"):
        place = f"starts.{start}.{key}"
        spec[key] = plan.artefacts.resolved(spec.get(key), replace(context, place=place))
    spec["filter_id"] = _filter(plan, spec, f"starts.{start}.filter.scores")
    run = _add_run(plan, f"{dataset}-{objective_slug(spec['objective'])}", spec)
    return _taken(plan, run, taken, other, f"starts.{start}.start_epoch")


def _attack(plan: Plan, declared: Spec, dataset: str, context: ArtefactContext) -> tuple[Spec, str]:
    """Add an attack; return its spec with resolved references, and its id."""
    spec = {
        key: plan.artefacts.resolved(value, replace(context, place=f"{context.place}.{key}"))
        for key, value in canonical_attack(declared).items()
    }
    attack = {"dataset": context.dataset, **spec}
    identity = normalized(by_content(attack, plan.data.inputs), "pretraining.attack")
    name = make_id(f"{dataset}-{attack_slug(attack)}", identity)
    plan.attacks[name] = attack
    return spec, name


def _taken(plan: Plan, run: str, taken: Any, other: Any, place: str) -> str:
    """Add the model that is taken from a pre-training run; return its id."""
    epochs = plan.runs[run]["epochs"]
    if taken in (None, "last", epochs):
        model, spec = run, {"taken": "last"}
    elif taken == "best_accuracy":
        model, spec = f"{run}/best_accuracy", {"taken": taken}
    elif isinstance(taken, dict):
        reference = other(taken["matches"], "start_epoch.matches")
        model = f"{run}/matches-{digest(reference)}"
        spec = {"taken": "nearest_accuracy", "reference": reference}
    elif taken > epochs:
        raise StepError(
            f"config: {place!r} is {taken}, but the pre-training has only {epochs} epochs; lower "
            "the start epoch"
        )
    else:
        model, spec = f"{run}/epoch-{taken}", {"taken": taken}
    plan.models[model] = {"run": run, "reference": None, **spec}
    rules = [other for other in plan.models.values() if other["run"] == run]
    if len(rules) > 1 and any(other["reference"] for other in rules):
        # The nearest epoch is selected while the run is trained without interruption.
        raise StepError(
            f"config: {place!r} and another start use different epochs of the same pre-training; "
            "with {matches: ...}, only a single epoch can be used"
        )
    return model


def _cleaning_rows(
    plan: Plan, config: Spec, experiment: Spec, defence: str, start: Spec
) -> Iterator[Spec]:
    declared = dict(config["defences"][defence])
    label, sweep = declared.pop("label"), declared.pop("vary", {})
    defaults = override(config["cleaning"], declared, f"defences.{defence}")
    varied = cleaning_keys(config, experiment)
    pretraining = plan.runs[start["run"]]
    taken_over = ("model", "attack", "attack_id", "dataset", "evaluation", "captions_id")
    stem = slug_of(pretraining["dataset"])
    for values in combinations(experiment["vary"]):
        for rates in combinations({k: v for k, v in sweep.items() if k not in values}):
            settings = {k: v for k, v in (values | rates).items() if k != VARIANT}
            spec = override(defaults, settings, f"defences.{defence}")
            spec |= {key: pretraining[key] for key in taken_over}
            spec |= {"kind": "cleaning", "start": start["start"]}
            declared_labels = spec["labels"]
            for key in ("objective", "start_change", "labels"):
                context = _context(plan, start["start"], f"defences.{defence}.{key}", spec["data"])
                spec[key] = plan.artefacts.resolved(spec[key], context)
            spec["split_id"] = _split(plan, stem, spec)
            spec["labels_id"] = _labels(plan, spec, declared_labels, f"defences.{defence}.labels")
            taken = add_of_each_epoch(plan, config, experiment, start["start"], spec["split_id"])
            spec |= {"measures": taken} if taken else {}
            run = _add_run(plan, f"{slug_of(start['run'])}-by-{cleaning_slug(spec)}", spec)
            tried = {key: value for key, value in rates.items() if key not in _NOT_TRIED}
            known = _knowledge(plan, spec)
            yield {
                **start,
                "run": run,
                "folder": f"cleaning/{run}",
                "kind": "cleaning",
                "defence": label,
                # Runs without epochs have no learning rate.
                "learning_rate": value_at(spec, RATE) if spec["epochs"] else None,
                **columns(spec | values, varied),
                **({SWEEP_COLUMN: json.dumps(tried)} if tried else {}),
                **({KNOWLEDGE_COLUMN: known} if known else {}),
            }


def _knowledge(plan: Plan, spec: Spec) -> str:
    """Return what the defence of a cleaning run knows besides the clean pairs, "" if nothing."""
    parts = [spec[key] for key in ("objective", "start_change", "labels")]
    makers = [plan.artefacts.specs[name]["make"] for name in needed(plan.artefacts.specs, parts)]
    named = [("artefact", make) for make in makers]
    if spec["start_change"]:
        named.append(("start_change", spec["start_change"]["name"]))
    known: dict[str, None] = {}
    for kind, name in [*named, *(("loss", term) for term in spec["objective"])]:
        facts = variants.attribute(kind, name, "KNOWS", ())
        known |= dict.fromkeys([facts] if isinstance(facts, str) else facts)
    return ", ".join(known)


def _split(plan: Plan, stem: str, spec: Spec) -> str:
    split = {"attack_id": spec["attack_id"], **spec["data"]}
    chosen = split.get("choose") or "last"
    name = make_id(f"{stem}-{chosen}{split['pairs']}", normalized(split, "cleaning.data"))
    plan.splits[name] = split
    return name


def _filter(plan: Plan, spec: Spec, place: str) -> str | None:
    """Add the pairs of an attack that remain after filtering; return their id."""
    if spec["filter"] is None:
        return None
    for scores in references(spec["filter"]):
        if plan.artefacts.specs[scores]["pairs"] != {"attacks": spec["attack_id"]}:
            raise StepError(
                f"config: {place!r} are scores of other pairs than the training pairs of the "
                "start; use an artefact whose 'pairs' are those of the same attack"
            )
    kept = {"attack_id": spec["attack_id"], **spec["filter"]}
    name = make_id(f"{slug_of(spec['attack_id'])}-less{kept['drop_highest']:g}", kept)
    plan.filters[name] = kept
    return name


def _default_split(plan: Plan, config: Spec, run: Spec) -> str:
    spec = {"attack_id": run["attack_id"], "data": config["cleaning"]["data"]}
    return _split(plan, slug_of(run["dataset"]), spec)


def _captions(plan: Plan, config: Spec) -> str:
    spec = config["captions"]
    slug = f"{spec['context_length']}tokens-seed{spec['seed']}"
    name = make_id(slug, normalized(spec, "captions"))
    plan.captions[name] = spec
    return name


def _labels(plan: Plan, spec: Spec, declared: Spec | None, place: str) -> str | None:
    """Return the id that stands for the pseudo-labels of a cleaning run in the run's id.

    Args:
        plan: The plan so far.
        spec: The run's spec, in which ``labels`` refers to an artefact by its id.
        declared: ``labels`` as in the config.
        place: Its key.
    """
    if declared is None:
        return None
    artefact = spec["labels"][ARTEFACT]
    made = plan.artefacts.specs[artefact]
    if made["pairs"] != {"splits": spec["split_id"]}:
        raise StepError(
            f"config: {place!r} are labels of other pairs than those of the clean split; "
            "use an artefact with 'pairs: cleaning'"
        )
    if made["make"] != "zero_shot_labels":
        return artefact
    # The id of such labels before they were artefacts, so that finished runs keep their ids.
    model, start = made["model"], made["model"].get(START)
    if start:
        model = plan.runs[plan.models[start]["run"]]["model"]
    identity = {
        "split_id": spec["split_id"],
        "evaluation": made["evaluation"],
        "model": plan.data.inputs.of_model(model),
        "start": start,
        "options": options_of("artefact", made["make"], made["options"]),
        "seed": made["seed"] or None,
    }
    return make_id(f"{slug_of(spec['split_id'])}-by-{declared[ARTEFACT]}", identity)


def _add_run(plan: Plan, slug: str, spec: Spec) -> str:
    # The ids in the spec stand for the data that its keys do not describe.
    inputs = plan.data.inputs
    identity = {key: value for key, value in spec.items() if key != "labels"} | {
        "attack": by_content(spec["attack"], inputs), "model": inputs.of_model(spec["model"])
    }  # fmt: skip
    run = make_id(slug, normalized(identity, spec["kind"]))
    plan.runs[run] = spec
    return run
