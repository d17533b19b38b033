"""Which code made a result: the git commit, and the texts of the modules that a run's numbers
depend on."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.common.files import sha256

FOLDER = Path(__file__).parents[1]
# What every training run executes; the variants that it names come on top.
_ALWAYS = (
    "common/seeds.py", "data/images.py", "data/manifest.py", "poison/trigger.py",
    "poison/triggers/_*.py", "training/*.py", "training/losses/_*.py",
)  # fmt: skip
# They note what a run did, or make one of its inputs, which it knows by their content.
_APART = {"training/label.py", "training/provenance.py", "training/tracking.py"}


def git_version() -> dict[str, Any]:
    """Return the git ``commit`` of this code and whether its tree is ``dirty``; None if unknown."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *words], cwd=FOLDER, capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }


def run_code(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the code that a training run's numbers depend on, as it is now.

    A loss term that the run does not use is not among it, so that adding one makes no run old.

    Args:
        spec: The run's spec, as it stands in ``spec.json`` or ``run.json``.

    Returns:
        File, below ``workflow_scripts/`` or as the spec names the user's own, to the first 12 hex
        digits of its SHA-256; files that are not there are left out.
    """
    named = [("training/losses", name) for name in spec["objective"]]
    named.append(("poison/triggers", spec["attack"]["trigger"]["name"]))
    if spec["start_change"]:
        named.append(("training/start_changes", spec["start_change"]["name"]))
    files = {
        str(file.relative_to(FOLDER)): file
        for pattern in _ALWAYS
        for file in FOLDER.glob(pattern)
        if file.name != "__init__.py"
    }
    for folder, name in named:
        own = name.endswith(".py")
        files[name if own else f"{folder}/{name}.py"] = (
            Path(name) if own else FOLDER / folder / f"{name}.py"
        )
    return {
        name: sha256(file)[:12]
        for name, file in sorted(files.items())
        if name not in _APART and file.is_file()
    }


def changed_since(record: Mapping[str, Any]) -> list[str] | None:
    """Return which files of a run's code are others now than when it ran; None if not recorded.

    Args:
        record: The run's ``run.json``.
    """
    then = record["code"].get("files")
    if then is None:
        return None
    now = run_code(record["spec"])
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
