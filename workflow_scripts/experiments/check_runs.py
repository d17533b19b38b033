"""Checks that the settings of each run are consistent with each other and with the known data."""

from collections.abc import Collection, Sequence
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.attacks import ALL, poisoned_pairs
from workflow_scripts.experiments.check_artefacts import check_artefacts, starts_behind
from workflow_scripts.experiments.check_attacks import check_attack, check_attack_on_data
from workflow_scripts.experiments.check_schedules import check_schedule, check_warmup
from workflow_scripts.experiments.check_variants import check_maker, check_variants
from workflow_scripts.experiments.known_classes import known_classes
from workflow_scripts.experiments.known_makers import detectors
from workflow_scripts.experiments.known_models import check_model, model_config, model_facts
from workflow_scripts.experiments.layers import (
    Settings,
    check_declared,
    cleaning_settings,
    defence_settings,
    pretraining_settings,
    start_settings,
)
from workflow_scripts.experiments.references import ARTEFACT

Spec = dict[str, Any]

_VOCABULARY = 49408  # tokens of CLIP's tokenizer


def check_runs(config: Spec, experiments: Collection[str]) -> None:
    """Check the settings of every start, every defence and every run of an experiment.

    Args:
        config: The config, complete and with its names checked.
        experiments: Experiments whose runs are also checked against models and data.

    Raises:
        StepError: The first error; the message names the key as the user wrote it.
    """
    check_artefacts(config)
    for name in config["starts"]:
        _check_alone(config, start_settings(config, name))
        _check_continues(config, name)
    for name in config["defences"]:
        _check_alone(config, defence_settings(config, name))
    classes = known_classes(config, config["evaluation"])
    for name, experiment in config["experiments"].items():
        starts = [
            settings
            for start in experiment["start"]
            for settings in pretraining_settings(config, name, start)
        ]
        cleaned = [
            settings
            for defence in experiment["defence"]
            for settings in cleaning_settings(config, name, defence)
        ]
        for settings in (*starts, *cleaned):
            _check_alone(config, settings)
        if name in experiments:
            made = [{ARTEFACT: artefact} for artefact in experiment["artefacts"]]
            for other in _needed(config, starts, cleaned, made):
                _check_pretraining(config, other, classes)
            for start in starts:
                _check_pretraining(config, start, classes)
                for settings in cleaned:
                    _check_cleaning(config, settings, start, classes)


def _check_alone(config: Spec, settings: Settings) -> None:
    """Check the settings that can be checked without models and data."""
    check_variants(settings, config["artefacts"])
    check_schedule(settings)
    if settings.section == "pretraining":
        check_declared(settings.place("dataset"), settings["dataset"], config["datasets"])
        if settings["continues"] is not None:
            check_declared(settings.place("continues"), settings["continues"], config["starts"])
        if settings["filter"] is not None:
            scores, place = settings["filter"]["scores"], settings.place("filter.scores")
            check_maker(place, scores, detectors(), config["artefacts"])
        if isinstance(settings["start_epoch"], dict):
            key = "start_epoch.matches"
            check_declared(settings.place(key), settings[key], config["starts"])
        check_model(settings["model"], settings.place("model"))
        check_attack(settings, config["artefacts"])
        return
    if settings["labels"] is not None:
        place, accepted = settings.place("labels"), ("zero_shot_labels",)
        check_maker(place, settings["labels"], accepted, config["artefacts"])
    if settings["epochs"] == 0 and settings["start_change"] is None:
        raise StepError(
            f"config: {settings.place('epochs')!r} is 0, but without a 'start_change' the cleaned "
            "model would equal the start model; set it to at least 1"
        )


def _needed(
    config: Spec, starts: list[Settings], cleaned: list[Settings], artefacts: list[Spec]
) -> list[Settings]:
    """Return the further pre-training runs that the runs of an experiment depend on."""
    wanted = [*starts_behind(config, [*artefacts, *(run.spec for run in cleaned)])]
    found: dict[str, Settings] = {}
    for run in starts:
        wanted += _others(config, run)
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = start_settings(config, name)
            wanted += _others(config, found[name])
    return list(found.values())


def _others(config: Spec, run: Settings) -> list[str]:
    """Return the names of the starts that a pre-training run depends on."""
    before, matched = run["continues"], run["start_epoch.matches"]
    if before is not None:
        earlier = start_settings(config, before)
        if earlier["model"] != run["model"]:
            raise StepError(
                f"config: {run.place('continues')!r} is {before!r}, which has another model "
                f"({earlier['model.name']}) than this run ({run['model.name']}); use the same "
                "model for both"
            )
    named = [name for name in (before, matched) if name is not None]
    return [*named, *starts_behind(config, run.spec)]


def _check_continues(config: Spec, name: str) -> None:
    seen, start = [name], name
    while (start := start_settings(config, start)["continues"]) is not None:
        if start in seen:
            raise StepError(
                f"config: 'starts.{name}.continues' leads back to {start!r}; name another start"
            )
        seen.append(start)
        if start not in config["starts"]:
            return  # reported when that start is checked


# --- Pre-training ----------------------------------------------------------------------------


def _check_pretraining(config: Spec, run: Settings, classes: Sequence[str] | None) -> None:
    pairs = dataset_pairs(config, run["dataset"])
    _check_batch(config, run, pairs, f"the dataset {run['dataset']}")
    check_warmup(run, pairs)
    _check_bias(run, run)
    epoch, epochs = run["start_epoch"], run["epochs"]
    if isinstance(epoch, int) and epoch > epochs:
        raise StepError(
            f"config: {run.place('start_epoch')!r} is {epoch}, but the pre-training has only "
            f"{epochs} epochs ({run.place('epochs')!r}); lower the start epoch"
        )
    for term in run["objective"]:
        if variants.attribute("loss", term, "uses_labels", False):
            raise StepError(
                f"config: {run.place('objective')!r} has the loss term {term!r}, which needs "
                "labels; use it for cleaning only"
            )
    check_attack_on_data(config, run, pairs, classes)
    _check_sizes(config, run)


def _check_sizes(config: Spec, run: Settings) -> None:
    side, length = config["image_size"], config["captions"]["context_length"]
    model, place = run["model"]["name"], run.place("model")
    image_size, context_length, *_ = model_facts(run["model"])
    square = image_size[0] if isinstance(image_size, list) and image_size else image_size
    if image_size is not None and square != side:
        raise StepError(
            f"config: {place!r} is {model}, which takes images of {image_size} pixels, but "
            f"'image_size' is {side}; set both to the same size"
        )
    if context_length is not None and context_length != length:
        raise StepError(
            f"config: {place!r} is {model}, which takes {context_length} tokens, but "
            f"'captions.context_length' is {length}; set both to the same length"
        )
    text = (model_config(run["model"]) or {}).get("text_cfg", {})
    if (text.get("vocab_size") or _VOCABULARY) < _VOCABULARY:
        raise StepError(
            f"config: {place!r} is {model}, whose vocabulary has {text['vocab_size']} tokens, but "
            f"CLIP's tokenizer has {_VOCABULARY}; set vocab_size to {_VOCABULARY}"
        )
    if text.get("hf_tokenizer_name"):
        raise StepError(
            f"config: {place!r} is {model}, which does not use CLIP's tokenizer; only models with "
            "CLIP's tokenizer are supported"
        )


def dataset_pairs(config: Spec, name: str) -> int | None:
    """Return an upper bound of the number of pairs of a dataset; None if it is not known."""
    dataset = config["datasets"][name]
    source, pairs = dataset["source"], dataset["pairs"]
    if config["sources"][source]["world"] and "demo" in config:
        offered, by = config["demo"]["pairs"], "'demo.pairs'"
    else:
        offered, by = config["costs"]["urls"].get(source), f"'costs.urls.{source}'"
    if pairs == ALL:
        return offered
    if offered is not None and pairs > offered:
        raise StepError(
            f"config: 'datasets.{name}.pairs' is {pairs}, but the source {source!r} has at most "
            f"{offered} ({by}); lower the number of pairs, or correct {by}"
        )
    return pairs


def _check_batch(config: Spec, run: Settings, pairs: int | None, of: str) -> None:
    batch, parts = run["batch_size"], run["accumulation"]
    needs = config["resources"][run.section]
    processes = max(1, needs.get("gpu", 0) * needs["nodes"])
    if batch % processes:
        raise StepError(
            f"config: {run.place('batch_size')!r} is {batch}, which is not divisible by the "
            f"{processes} processes of 'resources.{run.section}' (gpu x nodes); use a multiple"
        )
    if parts > batch // processes:
        raise StepError(
            f"config: {run.place('accumulation')!r} is {parts}, but each of {processes} processes "
            f"has only {batch // processes} pairs of a batch; lower the accumulation"
        )
    if pairs is not None and batch > pairs:
        raise StepError(
            f"config: {run.place('batch_size')!r} is {batch}, but {of} has only {pairs} pairs; "
            "lower the batch size"
        )


def _check_bias(run: Settings, start: Settings) -> None:
    """Check that the model has a bias if a loss term of the run needs one."""
    for term in run["objective"]:
        has_bias = model_facts(start["model"])[3]
        if variants.attribute("loss", term, "uses_bias", False) and not has_bias:
            raise StepError(
                f"config: {run.place('objective')!r} has the loss term {term!r}, which needs a "
                f"model with a bias: set init_logit_bias in the config of {start.place('model')!r}"
            )


# --- Cleaning --------------------------------------------------------------------------------


def _check_cleaning(
    config: Spec, run: Settings, start: Settings, classes: Sequence[str] | None
) -> None:
    pairs, held_out, left = (run[f"data.{key}"] for key in ("pairs", "held_out", "poisoned_left"))
    _check_batch(config, run, pairs, "the clean split ('cleaning.data.pairs')")
    check_warmup(run, pairs)
    _check_bias(run, start)
    _check_labels(run, classes)
    available, poisoned = dataset_pairs(config, start["dataset"]), poisoned_pairs(start["attack"])
    if available is not None:
        if run["data.leave_out_victims"] and poisoned is not None:
            available -= poisoned
        if pairs + held_out > available:
            raise StepError(
                f"config: {run.place('data.pairs')!r} is {pairs} and {held_out} more are held out, "
                f"but the dataset {start['dataset']!r} has only {available} pairs for both; lower "
                "one of them"
            )
    if left > pairs or (poisoned is not None and left > poisoned):
        most = f"the split has {pairs} pairs" if left > pairs else f"only {poisoned} are poisoned"
        raise StepError(
            f"config: {run.place('data.poisoned_left')!r} is {left}, but {most} "
            f"({start.place('attack.poisoned')!r}); lower the residual poison"
        )
    for term, options in run["objective"].items():
        clusters = options.get("clusters") if isinstance(options, dict) else None
        if isinstance(clusters, int) and clusters > pairs:
            raise StepError(
                f"config: {run.place(f'objective.{term}.clusters')!r} is {clusters}, but only "
                f"{pairs} pairs are clustered; lower the number of clusters"
            )


def _check_labels(run: Settings, classes: Sequence[str] | None) -> None:
    for term, options in run["objective"].items():
        if not variants.attribute("loss", term, "uses_labels", False):
            continue
        if run["labels"] is None:
            raise StepError(
                f"config: {run.place('objective')!r} has the loss term {term!r}, which needs "
                f"labels, but {run.place('labels')!r} is null; set it to {{artefact: NAME}}"
            )
        number = options.get("classes") if isinstance(options, dict) else None
        if classes is not None and isinstance(number, int) and number < len(classes):
            raise StepError(
                f"config: {run.place(f'objective.{term}.classes')!r} is {number}, but the "
                f"evaluation set has {len(classes)} classes; set it to {len(classes)}"
            )
