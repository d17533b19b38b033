"""The files that tell steps what the config says: specs of attacks and runs, arguments of steps."""

import json
from pathlib import Path
from typing import Any

from workflow_scripts.common.files import atomic
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.layout import step_arguments, written_spec

Spec = dict[str, Any]


def write_specs(config: Spec, plan: Plan, folder: Path) -> None:
    """Write the whole config and all that steps are told, each file only if it has changed.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
        folder: ``config.json`` goes there, ``specs/<kind>/<id>.json`` for the kinds attacks,
            pretraining and cleaning, and ``arguments/<rule>/<id>.txt``, one argument a line.
    """
    named = [("attacks", name) for name in plan.attacks]
    named += [(spec["kind"], name) for name, spec in plan.runs.items()]
    _write(folder / "config.json", _json(config))
    for kind, name in named:
        spec = written_spec(config, plan, kind, name)
        _write(folder / "specs" / kind / f"{name}.json", _json(spec))
    for rule, name, arguments in step_arguments(config, plan):
        _write(folder / "arguments" / rule / f"{name}.txt", "".join(f"{a}\n" for a in arguments))
    plan.data.inputs.save()


def _json(content: Spec) -> str:
    return json.dumps(content, indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        with atomic(path) as temporary:
            temporary.write_text(text)
