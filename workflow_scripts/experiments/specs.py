"""Writes the files that configure the steps: specs of attacks and runs, arguments of steps."""

import json
from pathlib import Path
from typing import Any

from workflow_scripts.common.files import atomic
from workflow_scripts.common.redact import redact
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.layout import step_arguments, written_spec
from workflow_scripts.experiments.measures import (
    declared_measures,
    declared_measures_name,
    written_measures,
)
from workflow_scripts.experiments.targets import run_rows

Spec = dict[str, Any]

CONFIG_HELP = (
    "the complete config, results/workflow/arguments/config.json, which every Snakemake command "
    "except a dry run writes"
)


def write_specs(config: Spec, plan: Plan, folder: Path) -> None:
    """Write the complete config, the specs and the arguments of steps; skip unchanged files.

    Files that contain secrets are readable only by their owner.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
        folder: Output folder. It gets ``config.json`` without secrets, for reference;
            ``specs/<kind>/<id>.json`` for attacks, artefacts, measures, pretraining and cleaning;
            ``arguments/<rule>/<id>.txt`` with one argument per line; tables of the experiments in
            ``arguments/runs``, ``arguments/artefacts`` and ``arguments/measures``; and
            ``arguments/config.json``, the unredacted config, from which ids are computed.
    """
    arguments_folder = folder / "arguments"
    named = [("attacks", name) for name in plan.attacks]
    named += [("artefacts", name) for name in plan.artefacts.specs]
    named += [(spec["kind"], name) for name, spec in plan.runs.items()]
    _write(folder / "config.json", _json(redact(config)))
    _write(arguments_folder / "config.json", _json(config))
    for kind, name in named:
        spec = written_spec(config, plan, kind, name)
        _write(folder / "specs" / kind / f"{name}.json", _json(spec))
    for name, spec in written_measures(config, plan):
        _write(folder / "specs" / "measures" / f"{name}.json", _json(spec))
    for experiment, runs in plan.experiments.items():
        _write(arguments_folder / "runs" / f"{experiment}.csv", run_rows(runs))
    for experiment, reports in plan.reports.items():
        _write(arguments_folder / "artefacts" / f"{experiment}.json", json.dumps(reports))
    for experiment in plan.measured:
        name = declared_measures_name(plan, experiment)
        _write(arguments_folder / "measures" / f"{name}.csv", declared_measures(plan, experiment))
    for rule, name, arguments in step_arguments(config, plan):
        _write(arguments_folder / rule / f"{name}.txt", "".join(f"{a}\n" for a in arguments))
    plan.data.inputs.save()


def _json(content: Spec) -> str:
    return json.dumps(content, indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    secret = redact(text) != text
    if path.is_file() and path.read_text() == text and not (secret and path.stat().st_mode & 0o077):
        return
    with atomic(path) as temporary:
        temporary.touch(mode=0o600 if secret else 0o666)
        temporary.write_text(text)
