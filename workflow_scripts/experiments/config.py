"""The config, checked before any rule is read; an error names the key and the nearest one."""

from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from snakemake.utils import validate

from workflow_scripts.common.errors import StepError, nearest

SCHEMA_PATH = Path(__file__).with_name("config.schema.yaml")


def check_config(config: dict[str, Any]) -> None:
    """Check ``config`` against the schema and its names against each other; fill in the defaults.

    Raises:
        StepError: The first thing that is wrong, in one sentence.
    """
    validator = Draft202012Validator(yaml.safe_load(SCHEMA_PATH.read_text()))
    # A misspelt key causes a missing one as well; the misspelt one is what to tell.
    errors = sorted(validator.iter_errors(config), key=lambda e: e.validator == "required")
    if errors:
        raise StepError(f"config: {_sentence(errors[0], config)}")
    validate(config, str(SCHEMA_PATH))
    _check_names(config)


def _sentence(error: ValidationError, config: dict[str, Any]) -> str:
    place = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties" and "properties" in error.schema:
        known = list(error.schema["properties"])
        wrong = next(key for key in error.instance if key not in known)
        return f"{_join(place, wrong)!r} is not a key; {nearest(wrong, known)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{_join(place, missing)!r} is missing"
    meaning = error.schema.get("description", "")
    return f"{place!r}: {error.message}" + (f" ({meaning})" if meaning else "")


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _check_names(config: dict[str, Any]) -> None:
    _known("evaluation", config["evaluation"], config["evaluations"])
    for name, dataset in config["datasets"].items():
        _known(f"datasets.{name}.source", dataset["source"], config["sources"])
    for name, labeller in config["labellers"].items():
        if "start" in labeller:
            _known(f"labellers.{name}.start", labeller["start"], config["starts"])
    for name in config["all"]:
        _known("all", name, config["experiments"])
    for name, experiment in config["experiments"].items():
        for key in ("start", "baseline"):
            for start in experiment[key]:
                _known(f"experiments.{name}.{key}", start, config["starts"])
        for defence in experiment["defence"]:
            _known(f"experiments.{name}.defence", defence, config["defences"])
        _check_figures(name, experiment, config)
    for name, source in config["sources"].items():
        for column in ("url", "caption"):
            if column not in source["columns"]:
                raise StepError(f"config: 'sources.{name}.columns' does not name {column!r}")


def _check_figures(name: str, experiment: dict[str, Any], config: dict[str, Any]) -> None:
    """Find a figure that asks for runs which its experiment lacks before the runs are made."""
    columns = {"start_label": ("start", "starts"), "defence": ("defence", "defences")}
    for figure, declared in experiment["figures"].items():
        for column, (key, kind) in columns.items():
            wanted = declared.get("where", {}).get(column, [])
            wanted = [wanted] if isinstance(wanted, str) else wanted
            labels = [config[kind][one]["label"] for one in experiment[key]]
            if wanted and not set(wanted) & set(labels):
                place = f"experiments.{name}.figures.{figure}.where.{column}"
                raise StepError(
                    f"config: {place!r} asks for none of this experiment's runs, whose labels are "
                    f"{', '.join(labels)}"
                )


def _known(place: str, name: str, names: dict[str, Any]) -> None:
    if name not in names:
        raise StepError(
            f"config: {place!r} is {name!r}, which is not declared; {nearest(name, names)}"
        )
