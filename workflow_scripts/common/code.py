"""Which code made a result: the git commit, and digests of the modules that were executed.

A module's digest is that of its syntax tree without docstrings, so that comments, docstrings and
formatting do not count. Which modules matter is found by following imports.
"""

import ast
import functools
import hashlib
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.attacks import variants_of

FOLDER = Path(__file__).parents[1]
_PACKAGE = FOLDER.name
# What computes a training run's numbers; the variants that the run names come on top.
_TRAINER = "training/trainer.py"
# What variants import of `common` counts no longer, but stands in the digests that finished steps
# have recorded: with these values, whatever has become of the files.
_AS_RECORDED = {
    "common/errors.py": "ada8090d0909",
    "common/redact.py": "4bcd886d1678",
    "common/seeds.py": "f060caaa4188",
}


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


def code_digests(files: Iterable[Path]) -> dict[str, str]:
    """Return digests of Python files and of all of this package's modules that they import.

    Args:
        files: Modules of this package, or the user's own. Missing files are left out.

    Returns:
        File, below ``workflow_scripts/`` or as given, to 12 hex digits; sorted by file.
    """
    found: set[Path] = set()
    waiting = [file for file in files if file.is_file()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imports(file)
    named = {_name(file): _digest(file) for file in found}
    return dict(sorted(named.items()))


def run_code(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return digests of the code that computes a training run's numbers, as it is now.

    A loss term that the run does not use is not included: adding one flags no run.

    Args:
        spec: The run's spec, as in ``spec.json`` or ``run.json``.

    Returns:
        See :func:`code_digests`.
    """
    named = [("loss", name) for name in spec["objective"]]
    named += variants_of(spec["attack"])
    if spec.get("start_change"):
        named.append(("start_change", spec["start_change"]["name"]))
    taken = (spec.get("inputs") or {}).get("measures") or ()
    named += [("measure", measure["measure"]) for measure in taken]
    files = [
        Path(name) if name.endswith(".py") else FOLDER / variants.KINDS[kind].folder / f"{name}.py"
        for kind, name in named
    ]
    return code_digests([FOLDER / _TRAINER, *files])


def variant_code(kind: str, name: str) -> dict[str, str]:
    """Return digests of a variant's own code: its file, and the helpers that stand beside it.

    What it imports from elsewhere does not count, so that a reworded error message re-runs nothing.
    """
    file = variants.source(kind, name)
    beside = f"{variants.KINDS[kind].folder}/"
    found = {n: _AS_RECORDED.get(n, d) for n, d in code_digests([file]).items()}
    return {
        n: d
        for n, d in found.items()
        if n.startswith(beside) or n in _AS_RECORDED or Path(n) == file
    }


def attack_code(attack: Mapping[str, Any]) -> dict[str, str]:
    """Return digests of the variants' own code that decides what an attack makes."""
    found: dict[str, str] = {}
    for kind, name in variants_of(dict(attack)):
        found |= variant_code(kind, name)
    return dict(sorted(found.items()))


def changed_since(record: Mapping[str, Any]) -> list[str] | None:
    """Return which files of a run's code differ from when it ran; None if not recorded.

    Args:
        record: The run's ``run.json``.
    """
    then = record["code"].get("files")
    if then is None:
        return None
    now = run_code(record["spec"])
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


def _name(file: Path) -> str:
    return str(file.relative_to(FOLDER)) if file.is_relative_to(FOLDER) else str(file)


def _digest(file: Path) -> str:
    return _read(file, file.stat().st_mtime_ns)[0]


def _imports(file: Path) -> tuple[Path, ...]:
    return _read(file, file.stat().st_mtime_ns)[1]


@functools.cache
def _read(file: Path, _modified: int) -> tuple[str, tuple[Path, ...]]:
    """Return a file's digest and the files of this package that it imports.

    A file that does not parse is known by its bytes: whoever runs it says what is wrong.
    """
    data = file.read_bytes()
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return hashlib.sha256(data).hexdigest()[:12], ()
    imported = tuple(dict.fromkeys(_imported(tree)))
    _drop_docstrings(tree)
    # Unparsed text changes less between versions of Python than a dump of the tree.
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12], imported


def _imported(tree: ast.AST) -> Iterator[Path]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # What is imported from a package may be a module of it.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            head, *parts = name.split(".")
            file = FOLDER.joinpath(*parts).with_suffix(".py") if parts else FOLDER
            if head == _PACKAGE and file.is_file():
                yield file


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
