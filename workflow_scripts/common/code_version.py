"""Identify the code that made a result by git commit and by digests of the executed modules.

A module's digest is computed from its syntax tree without docstrings, so it does not depend on
comments, docstrings and formatting. Relevant modules are found by following imports.
"""

import ast
import contextlib
import functools
import hashlib
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.common import variants
from workflow_scripts.common.attacks import named, variants_of
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.tower_passes import declared_views

FOLDER = Path(__file__).parents[1]
_PACKAGE = FOLDER.name
# Computes the numbers of a training run, together with the variants that the run uses.
_TRAINER = "training/trainer.py"
# Modules of `common` that variants import no longer affect digests. Finished steps have recorded
# digests that include them, so these constants stand in for the files.
_AS_RECORDED = {
    "common/errors.py": "ada8090d0909",
    "common/redact.py": "4bcd886d1678",
    "common/seeds.py": "f060caaa4188",
}

# Files that have changed without effect on any result (error messages, the format of an input,
# speed): their digest, and that of the code before, which finished steps have recorded (None: a
# module that did not exist).
_EQUIVALENT: dict[str, str | None] = {
    "cca355217c20": "cb494a8baab4",  # poison/triggers/_blend.py
    "acdd3e24e949": "6056e7d8f8de",  # poison/triggers/_centre.py
    "035d73f0bbaa": "9f636e57ec15",  # poison/triggers/_place.py
    "9ec02930d6c9": "64513af78292",  # poison/triggers/image_blend.py
    "7649b245c993": "6288a7f1557f",  # poison/triggers/patch.py
    "1a244afc4a70": "88126576fe3f",  # poison/triggers/stripes.py
    "6423ebda1261": "0c936725ceee",  # poison/triggers/triangles.py
    "4069c9485742": "e8d5ce2a04c8",  # poison/triggers/warped.py
    "24e6204eade8": "a32456e3ded1",  # poison/victim_choices/instance.py
    "f82586f1834c": "aab575a2582e",  # poison/victim_choices/near_target.py
    "746ffa7369d1": "2edfb416b61d",  # poison/victim_captions/natural.py
    "41240640701c": "b8523d23080f",  # poison/victim_captions/templates.py
    "cf7b9234882b": "7f6c4786a8cd",  # poison/victim_choices/random.py
    "605895292eb8": "a985d42a6a14",  # artefacts/makers/badclip_patch.py
    "46d6408e2550": "4fe5fa4b6062",  # artefacts/makers/task_vector.py
    "6ce5efe39b15": "e78b39b14928",  # training/losses/pseudo_labels.py
    "b357342ec900": "dda35faa99f3",  # training/pairs.py
    "dc618a5e17ea": "aaac3f4b3742",  # evaluation/zero_shot.py
    "a27e25248793": "347986f0010d",  # data/manifest.py
    "c33ec2542d1c": "991a00657dab",  # data/overlay.py
    "b76263315f64": "c259cde9c502",  # poison/trigger.py
    "791124013411": "1621d112b824",  # training/start_changes/channel_lipschitz.py
    "1b2371241a9a": "365d075b1e44",  # training/start_changes/subtract_task_vector.py
    "35307fe5c39e": "71cbf0e17673",  # training/start_changes/wise_ft.py
    "fe2c822e03c9": "e979aa4fca95",  # artefacts/makers/zero_shot_labels.py
    "3c85284ff2a3": "ada8090d0909",  # common/errors.py
    "2523899d940a": "bb87c41da1d2",  # common/workers.py
    "ca946cc4be7c": "719a189e0d77",  # common/files.py
    "d4c59febac7a": "0424fd8367be",  # common/variants.py
    "352108b07aed": "e2fd2f856086",  # evaluation/measure.py
    "b9e22d5cc171": "ecb0642b75bb",  # evaluation/goals.py
    "f7fc0f79e453": "16382efdecd0",  # evaluation/labelled.py
    "c172929d410e": "210b24486ad0",  # evaluation/measures/zero_shot.py
    "89b8484fee1a": "b98a53557b0c",  # evaluation/measures/linear_probe.py
    "d1d20dc097b3": "9e50a1218221",  # training/optimizer.py
    "fdd299db1338": "31e9ead3b5d1",  # common/columns.py
    "231a8b360449": "d78dceba786b",  # common/open_clip_files.py
    "87bbc7aec00d": "4bcd886d1678",  # common/redact.py
    "19a28a416d12": "8069424f1b3b",  # model/models.py
    "3f99b0617314": "93be54056431",  # model/tensors.py
    "884c8fa3cd6f": "535116f2de4c",  # common/distributed.py
    "6c2f8b5c54f6": "5cc2687d696e",  # training/taking.py
    "5dc5b05fa97e": None,  # common/imports.py
}


def git_version() -> dict[str, Any]:
    """Return the git ``commit`` and whether the work tree is ``dirty``; None where unknown."""

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
    """Return digests of Python files and of the modules of this package that they import.

    Args:
        files: Modules of this package or user files. Missing files are ignored.

    Returns:
        Mapping from file (relative to ``workflow_scripts/``, or as given) to 12 hex digits, sorted
        by file.
    """
    found: set[Path] = set()
    waiting = [file for file in files if file.is_file()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imports(file)
    digests = {_name(file): _digest(file) for file in found}
    return {name: d for name, d in sorted(digests.items()) if d is not None}


def run_code(spec: Mapping[str, Any], augmentations: bool = True) -> dict[str, str]:
    """Return digests of the current code that computes the numbers of a training run.

    Only variants that the run uses are included, so adding a variant does not flag existing runs.

    Args:
        spec: The run's spec, as in ``spec.json`` or ``run.json``.
        augmentations: Whether to include the image augmentations.

    Returns:
        See :func:`code_digests`.
    """
    used = [("loss", name) for name in spec["objective"]]
    if augmentations:
        used += [("augmentation", name) for name in _augmentations(spec["objective"])]
    used += variants_of(spec["attack"])
    if spec.get("start_change"):
        used.append(("start_change", spec["start_change"]["name"]))
    measures = (spec.get("inputs") or {}).get("measures") or ()
    used += [("measure", measure["measure"]) for measure in measures]
    files = [
        Path(name) if name.endswith(".py") else FOLDER / variants.KINDS[kind].folder / f"{name}.py"
        for kind, name in used
    ]
    return code_digests([FOLDER / _TRAINER, *files])


def _augmentations(terms: Iterable[str]) -> Iterator[str]:
    """Yield the names of the image augmentations that loss terms use."""
    for term in terms:
        # The user's own file may no longer exist.
        with contextlib.suppress(StepError):
            images = [view.get("image") for view in declared_views(term)]
            yield from (named(image)[0] for image in images if image is not None)


def variant_code(kind: str, name: str) -> dict[str, str]:
    """Return digests of a variant's own code: its file, and helpers in the same folder.

    Imports from other folders are excluded, so rewording an error message there repeats no step.
    """
    file = variants.source(kind, name)
    folder = f"{variants.KINDS[kind].folder}/"
    digests = {n: _AS_RECORDED.get(n, d) for n, d in code_digests([file]).items()}
    return {
        n: d
        for n, d in digests.items()
        if n.startswith(folder) or n in _AS_RECORDED or Path(n) == file
    }


def attack_code(attack: Mapping[str, Any]) -> dict[str, str]:
    """Return digests of the own code of all variants that determine the result of an attack."""
    digests: dict[str, str] = {}
    for kind, name in variants_of(dict(attack)):
        digests |= variant_code(kind, name)
    return dict(sorted(digests.items()))


def changed_since(record: Mapping[str, Any]) -> list[str] | None:
    """Return the files of a run's code that have changed since it ran; None if not recorded.

    Args:
        record: The run's ``run.json``.
    """
    old = record["code"].get("files")
    if old is None:
        return None
    new = run_code(record["spec"])
    # Older records lack the augmentations.
    late = new.keys() - old.keys() - run_code(record["spec"], augmentations=False).keys()
    names = (old.keys() | new.keys()) - late
    return sorted(name for name in names if old.get(name) != new.get(name))


def _name(file: Path) -> str:
    return str(file.relative_to(FOLDER)) if file.is_relative_to(FOLDER) else str(file)


def _digest(file: Path) -> str | None:
    found = _read(file, file.stat().st_mtime_ns)[0]
    return _EQUIVALENT.get(found, found)


def _imports(file: Path) -> tuple[Path, ...]:
    return _read(file, file.stat().st_mtime_ns)[1]


@functools.cache
def _read(file: Path, _modified: int) -> tuple[str, tuple[Path, ...]]:
    """Return a file's digest and the files of this package that it imports.

    A file that does not parse is identified by its bytes; the error is reported when it is used.
    """
    data = file.read_bytes()
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return hashlib.sha256(data).hexdigest()[:12], ()
    imported = tuple(dict.fromkeys(_imported(tree)))
    _drop_docstrings(tree)
    # Unparsed text is more stable across versions of Python than a dump of the tree.
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12], imported


def _imported(tree: ast.AST) -> Iterator[Path]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # A name imported from a package may be a module.
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
