"""Checks the config before any rule is read; errors name the key and the closest valid one.

    python -m workflow_scripts.experiments.config mine.yaml

checks files as if they were passed to Snakemake's --configfile, for the target `all` or for the
experiments given by --experiment. Snakemake reads config files before this workflow does, and does
not report the file and the line of a YAML error.

Nothing is run and torch is not imported. Disks, GPUs and Slurm are checked by preflight.
"""

import argparse
import functools
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError, nearest, run_step
from workflow_scripts.common.redact import redact
from workflow_scripts.data.addresses import parse_networks
from workflow_scripts.data.client import parse_url
from workflow_scripts.experiments.audits import check_audit
from workflow_scripts.experiments.check_figures import check_figures
from workflow_scripts.experiments.check_measures import check_measures
from workflow_scripts.experiments.check_overrides import check_overrides
from workflow_scripts.experiments.check_runs import check_runs
from workflow_scripts.experiments.check_variants import numbers_of_options
from workflow_scripts.experiments.layers import check_declared
from workflow_scripts.experiments.load_config import combined_config
from workflow_scripts.experiments.schema import (
    check_against,
    check_plain,
    fill_defaults,
    whole_schema,
    with_numbers,
)
from workflow_scripts.experiments.zoo import check_zoo

Spec = dict[str, Any]

_RULES = Path(__file__).parents[2] / "rules"
_RULE = re.compile(
    r"^ *(?:(?:rule|checkpoint) +|use +rule +\w+ +as +)(\w+) *(?::|with)", re.MULTILINE
)


def check_config(config: Spec, experiments: Collection[str] | None = None) -> None:
    """Complete ``config`` and check all of it.

    Args:
        config: Changed in place, as by :func:`complete_config`.
        experiments: Experiments whose runs are also checked against models and data (batch sizes,
            numbers of pairs, targets); all by default. Experiments that are not made may be
            impossible at the scale of an override file.

    Raises:
        StepError: The first error, in one sentence.
    """
    complete_config(config)
    _check_names(config)
    _check_download(config["download"])
    wanted = config["experiments"] if experiments is None else experiments
    check_runs(config, wanted)
    check_figures(config)
    check_measures(config, wanted)
    check_audit(config)
    check_zoo(config)


def complete_config(config: Spec) -> None:
    """Fill in defaults and convert numbers given as text, in place; check each value.

    Raises:
        StepError: A key is unknown or missing, or a value has the wrong type.
    """
    _text_keys_of_labels(config)
    check_plain(config)
    with_numbers(config, whole_schema())
    check_against(config, whole_schema())
    fill_defaults(config, whole_schema())
    check_overrides(config)
    numbers_of_options(config)


def _text_keys_of_labels(config: Spec) -> None:
    """Convert numeric keys of a figure's ``labels``, which are values of columns, to text."""
    experiments = config.get("experiments")
    for experiment in experiments.values() if isinstance(experiments, dict) else ():
        figures = experiment.get("figures") if isinstance(experiment, dict) else None
        for figure in figures.values() if isinstance(figures, dict) else ():
            labels = figure.get("labels") if isinstance(figure, dict) else None
            if isinstance(labels, dict):
                figure["labels"] = {
                    str(key) if isinstance(key, int | float) else key: words
                    for key, words in labels.items()
                }


def _check_names(config: Spec) -> None:
    check_declared("evaluation", config["evaluation"], config["evaluations"])
    for name, evaluation in config["evaluations"].items():
        _check_evaluation(f"evaluations.{name}", evaluation)
    for name, dataset in config["datasets"].items():
        check_declared(f"datasets.{name}.source", dataset["source"], config["sources"])
    for name in config["costs"]["urls"]:
        check_declared("costs.urls", name, config["sources"])
    for name in config["all"]:
        check_declared("all", name, config["experiments"])
    for section in ("starts", "defences"):
        _check_labels(section, config[section])
    for name, experiment in config["experiments"].items():
        _check_experiment(name, experiment, config)
    for name, source in config["sources"].items():
        _check_source(f"sources.{name}", source, config)


def _check_evaluation(place: str, evaluation: Spec) -> None:
    """Check that no key is without effect, which would nevertheless be part of the set's id."""
    source = "folder" if "folder" in evaluation else "imagenet_archive"
    excluded = {
        "folder": ("imagenet_archive", "devkit"), "imagenet_archive": ("classes", "names")
    }  # fmt: skip
    both = [(source, key) for key in excluded[source] if key in evaluation]
    if {"names", "classes"} <= evaluation.keys():
        both.append(("names", "classes"))
    for key, other in both:
        raise StepError(
            f"config: '{place}.{other}' has no effect together with '{place}.{key}'; remove one of "
            "the two"
        )


def _check_source(place: str, source: Spec, config: Spec) -> None:
    for column in ("url", "caption"):
        if column not in source["columns"]:
            raise StepError(
                f"config: '{place}.columns' must include {column!r}; list a name for each column "
                "in the order of the file, and call the two that are used url and caption"
            )
    if source["world"] and "demo" not in config:
        raise StepError(f"config: '{place}.world' needs the section 'demo'; add this section")
    if "://" not in source["list"]:
        return
    try:
        parse_url(source["list"])
    except ValueError as error:
        raise StepError(
            f"config: '{place}.list' is {redact(source['list'])!r}, which cannot be downloaded "
            f"({error}); give a path or an http(s) URL"
        ) from error


def _check_download(download: Spec) -> None:
    try:
        parse_networks(download["allow_private"])
    except ValueError as error:
        raise StepError(f"config: 'download.allow_private': {error}") from error
    smallest, most = download["min_size"], download["max_pixels"]
    if smallest**2 > most:
        raise StepError(
            f"config: 'download.min_size' is {smallest}, but an image of {smallest} x {smallest} "
            f"pixels has more than 'download.max_pixels' ({most}); lower one or raise the other"
        )


def _check_labels(section: str, declared: Spec) -> None:
    """Check that all starts or all defences have different labels: figures identify them by it."""
    seen: dict[str, str] = {}
    for name, item in declared.items():
        other = seen.setdefault(item["label"].strip(), name)
        if other != name:
            raise StepError(
                f"config: '{section}.{name}.label' is {item['label']!r}, which is also the "
                f"label of {other!r}; labels must be unique"
            )


def _check_experiment(name: str, experiment: Spec, config: Spec) -> None:
    others = {"", *config["experiments"].keys() - {name}}
    made = {f"{rule}_{other}".rstrip("_") for rule in ("plan", "preflight") for other in others}
    if name in _rules() | made:
        raise StepError(
            f"config: 'experiments.{name}' has the name of a rule of the workflow; rename the "
            "experiment"
        )
    declared = {"start": "starts", "baseline": "starts", "defence": "defences"}
    for key, section in (declared | {"artefacts": "artefacts"}).items():
        for declared_name in experiment[key]:
            check_declared(f"experiments.{name}.{key}", declared_name, config[section])
    for start in experiment["baseline"]:
        if start not in experiment["start"]:
            raise StepError(
                f"config: 'experiments.{name}.baseline' is {start!r}, which is not among "
                f"'experiments.{name}.start'; {nearest(start, experiment['start'])}"
            )


@functools.cache
def _rules() -> frozenset[str]:
    """Return the names of the workflow's rules, which must differ from those of experiments."""
    files = [*_RULES.glob("*.smk"), _RULES.with_name("Snakefile")]
    return frozenset(n for f in files if f.is_file() for n in _RULE.findall(f.read_text("utf-8")))


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and check config files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*", help="override config.yaml, in this order")
    parser.add_argument(
        "--experiment",
        action="append",
        help="an experiment to run; can be repeated (those of `all`)",
    )
    options = parser.parse_args(arguments)
    config = combined_config([_RULES.with_name("config.yaml"), *options.files], {})
    check_config(config, options.experiment or config.get("all"))
    for name in options.experiment or []:
        check_declared("--experiment", name, config["experiments"])
    print("the config is valid")


if __name__ == "__main__":
    run_step(main)
