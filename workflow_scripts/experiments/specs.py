"""The files that tell a step what the config says: the spec of each attack and training run."""

import json
from pathlib import Path
from typing import Any

from workflow_scripts.common.files import atomic
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.paths import written_spec

Spec = dict[str, Any]


def write_specs(config: Spec, plan: Plan, folder: Path) -> None:
    """Write the whole config and all specs, each of them only if it has changed.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
        folder: ``config.json`` goes there, and ``specs/<kind>/<id>.json`` for the kinds
            attacks, pretraining and cleaning.
    """
    named = [("attacks", name) for name in plan.attacks]
    named += [(spec["kind"], name) for name, spec in plan.runs.items()]
    _write(folder / "config.json", config)
    for kind, name in named:
        _write(folder / "specs" / kind / f"{name}.json", written_spec(config, plan, kind, name))


def _write(path: Path, content: Spec) -> None:
    text = json.dumps(content, indent=2) + "\n"
    if not path.is_file() or path.read_text() != text:
        with atomic(path) as temporary:
            temporary.write_text(text)
