"""Variants: triggers, loss terms, measures and others, each a module with one public name.

A name in the config is the name of a module in the folder of its kind, or the path of a Python file
of the user's own. What a variant accepts is read from its source, without importing it, so that
the config can be checked where torch is not installed and in little time.
"""

import ast
import copy
import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.common.syntax import (
    Definition,
    Module,
    assigned,
    family,
    parsed,
    resolve,
    value_of,
)

_ROOT = Path(__file__).parents[2]
_PACKAGE = "workflow_scripts"
_MISSING = object()


@dataclass(frozen=True)
class Kind:
    """A kind of variants.

    Attributes:
        word: What messages call it.
        folder: Its modules, below ``workflow_scripts/``.
        public: The class or function that each module has.
        given: Parameters that the workflow passes: to a class by name, to a function by position.
        base: Class that the public class has to be a subclass of, if any.
    """

    word: str
    folder: str
    public: str
    given: tuple[str, ...]
    base: str | None = None


KINDS = {
    "trigger": Kind("trigger", "poison/triggers", "Trigger", ("image_size", "seed")),
    "victims": Kind("victim choice", "poison/victim_choices", "choose", ("given",)),
    "captions": Kind("victim caption", "poison/victim_captions", "write", ("given", "rows")),
    "loss": Kind("loss term", "training/losses", "Loss", ("run",), base="LossTerm"),
    "augmentation": Kind(
        "image augmentation", "training/augmentations", "Augmentation", ("image_size",)
    ),
    "start_change": Kind("start change", "training/start_changes", "change", ("model", "fresh")),
    "artefact": Kind("artefact maker", "artefacts/makers", "make", ("given",)),
    "measure": Kind("measure", "evaluation/measures", "measure", ("encoder", "context")),
    "figure": Kind("figure kind", "results/figures", "draw", ("metrics",)),
}


@dataclass(frozen=True)
class Option:
    """One option of a variant.

    Attributes:
        required: Whether it has no default.
        default: Its default; None if it is required, ``syntax.UNKNOWN`` if it is not a literal
            or a constant.
        annotation: The source text of its type, "" if it has none.
    """

    required: bool
    default: Any
    annotation: str


def names(kind: str) -> list[str]:
    """Return the names of the variants of a kind, sorted; modules named ``_...`` are helpers."""
    folder = _ROOT / _PACKAGE / KINDS[kind].folder
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def source(kind: str, name: str) -> Path:
    """Return the file of a variant.

    Args:
        kind: One of ``KINDS``.
        name: A module's name (``"yellow"``), or a path ending in ``.py`` to a file of the user's
            own, relative to the working directory.

    Raises:
        StepError: There is no such variant, or no such file.
    """
    word = KINDS[kind].word
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise StepError(f"the {word} {name!r} does not exist as a file; correct its path")
        return path
    path = _ROOT / _PACKAGE / KINDS[kind].folder / f"{name}.py"
    if not name.isidentifier() or name.startswith("_") or not path.is_file():
        raise StepError(
            f"unknown {word} {name!r}; {nearest(name, names(kind))} (or give the path of your own "
            "file, ending in .py)"
        )
    return path


def options(kind: str, name: str) -> dict[str, Option]:
    """Return the options of a variant by name, without those that the workflow passes.

    Raises:
        StepError: There is no such variant, or it cannot be used: its file does not parse or
            lacks the public class or function.
    """
    return dict(_signature(kind, name)[0])


def takes_any(kind: str, name: str) -> bool:
    """Return whether a variant takes more options than its source tells, by ``**options``.

    Raises:
        StepError: As :func:`options`.
    """
    return _signature(kind, name)[1]


def check_options(kind: str, name: str, given: Iterable[str]) -> None:
    """Check the names of the options that a variant is given.

    Raises:
        StepError: An option does not exist or is missing; or as :func:`options`.
    """
    known, more = _signature(kind, name)
    word = KINDS[kind].word
    for option in given:
        if option not in known and not more:
            hint = nearest(option, known) if known else "it takes none"
            raise StepError(f"the {word} {name!r} has no option {option!r}; {hint}")
    for option, declared in known.items():
        if declared.required and option not in given:
            raise StepError(f"the {word} {name!r} needs the option {option!r}; add it")


def attribute(kind: str, name: str, attribute: str, default: Any) -> Any:
    """Return a literal attribute of a variant, or ``default``.

    Of a class, its own or an inherited one; of a function, its module's constant of that name.

    Raises:
        StepError: As :func:`options`.
    """
    found = _read_attribute(kind, name, attribute, parsed(source(kind, name)).stamp)
    return default if found is _MISSING else found


@functools.lru_cache(maxsize=256)
def _read_attribute(kind: str, name: str, attribute: str, _stamp: tuple[int, int]) -> Any:
    module, node = _public(kind, name)
    if not isinstance(node, ast.ClassDef):
        found = module.values.get(attribute)
        return _MISSING if found is None else value_of(module, found)
    for there, one in family(module, node):
        for statement in one.body if one else ():
            for target, value, _ in assigned(statement):
                if target == attribute and value is not None:
                    return value_of(there, value)
    return _MISSING


def load(kind: str, name: str) -> Any:
    """Import a variant; return its class or function.

    Raises:
        StepError: As :func:`options`, or an import of the user's file fails.
    """
    _public(kind, name)
    return getattr(_module(kind, name), KINDS[kind].public)


def companion(kind: str, name: str, function: str) -> Any:
    """Import a variant; return another function of its module, or None if it has none of that name.

    Raises:
        StepError: As :func:`load`.
    """
    return getattr(_module(kind, name), function, None)


def _module(kind: str, name: str) -> ModuleType:
    path = source(kind, name)
    if not name.endswith(".py"):
        folder = KINDS[kind].folder.replace("/", ".")
        return importlib.import_module(f"{_PACKAGE}.{folder}.{name}")
    spec = importlib.util.spec_from_file_location(f"variant_{path.stem}", path.resolve())
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    # Dataclasses with postponed annotations look their module up there.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise StepError(f"{name} cannot be imported: {error}") from error
    return module


def _public(kind: str, name: str) -> tuple[Module, Definition | None]:
    """Return a variant's public class or function; None where its definition cannot be seen."""
    declared = KINDS[kind]
    module = parsed(source(kind, name))
    if declared.public in module.definitions:
        node = module.definitions[declared.public]
        _check_base(declared, name, module, node)
        return module, node
    if declared.public in module.imported:
        found = resolve(module, ast.Name(declared.public))
        return (found[0], found[0].definitions.get(found[1])) if found else (module, None)
    if declared.public in module.values:
        return module, None
    what = "function" if declared.public.islower() else "class"
    raise StepError(f"{name} has no {what} {declared.public}, which a {declared.word} needs")


def _check_base(declared: Kind, name: str, module: Module, node: Definition) -> None:
    if declared.base is None:
        return
    classes = [n for _, n in family(module, node)] if isinstance(node, ast.ClassDef) else []
    if any(one is None or one.name == declared.base for one in classes):
        return
    raise StepError(
        f"the {declared.public} of {name} is not a subclass of {declared.base} "
        f"(from {_PACKAGE}.{declared.folder.replace('/', '.')} import {declared.base})"
    )


def _signature(kind: str, name: str) -> tuple[dict[str, Option], bool]:
    """Return the options of a variant, and whether it takes others as well."""
    path = source(kind, name)
    return _read_signature(kind, name, parsed(path).stamp)


@functools.lru_cache(maxsize=256)
def _read_signature(
    kind: str, name: str, _stamp: tuple[int, int]
) -> tuple[dict[str, Option], bool]:
    accepted, more = _accepted(kind, name)
    given = KINDS[kind].given
    lacking = (
        [] if more or KINDS[kind].public.islower() else [n for n in given if n not in accepted]
    )
    if lacking:
        raise StepError(
            f"the {KINDS[kind].public} of {name} does not take {lacking[0]!r}, which each "
            f"{KINDS[kind].word} is given; add it"
        )
    return {key: option for key, option in accepted.items() if key not in given}, more


def _accepted(kind: str, name: str) -> tuple[dict[str, Option], bool]:
    """Return all that a class takes by name or a function after its first arguments."""
    module, node = _public(kind, name)
    given = KINDS[kind].given
    if isinstance(node, ast.FunctionDef):
        # A function gets its first arguments by position, a factory in a class's place by name.
        by_position = KINDS[kind].public == node.name.lower()
        return _parameters(module, node, len(given) if by_position else 0)
    if node is None:
        return {}, True
    fields: dict[str, Option] = {}
    for there, one in family(module, node):
        if one is None:
            return fields, True
        made = next((s for s in one.body if getattr(s, "name", "") == "__init__"), None)
        if isinstance(made, ast.FunctionDef):
            own, more = _parameters(there, made, 1)
            return own | fields, more
        if _is_dataclass(one):
            fields = dict(_fields(there, one)) | fields
    return fields, False


def _parameters(
    module: Module, node: ast.FunctionDef, skipped: int
) -> tuple[dict[str, Option], bool]:
    declared = node.args
    positional = [*declared.posonlyargs, *declared.args]
    defaults = [None] * (len(positional) - len(declared.defaults)) + declared.defaults
    found = list(zip(positional, defaults, strict=True))[skipped:]
    found += zip(declared.kwonlyargs, declared.kw_defaults, strict=True)
    options = {one.arg: _option(module, default, one.annotation) for one, default in found}
    return options, declared.kwarg is not None


def _is_dataclass(node: ast.ClassDef) -> bool:
    decorators = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return any("dataclass" in ast.unparse(d).split(".") for d in decorators)


def _fields(module: Module, node: ast.ClassDef) -> Iterator[tuple[str, Option]]:
    for statement in node.body:
        for name, value, annotation in assigned(statement):
            if annotation is None or "ClassVar" in ast.unparse(annotation):
                continue
            settings: dict[str | None, ast.expr] = {}
            default = value
            if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field"):
                settings = {k.arg: k.value for k in value.keywords}
                # Of a factory, the call itself stands for a default that is not known.
                default = settings.get("default", value if "default_factory" in settings else None)
            if "init" not in settings or value_of(module, settings["init"]) is not False:
                yield name, _option(module, default, annotation)


def _option(module: Module, default: ast.expr | None, annotation: ast.expr | None) -> Option:
    text = ast.unparse(_Aliases(module).visit(copy.deepcopy(annotation))) if annotation else ""
    if default is None:
        return Option(True, None, text)
    return Option(False, value_of(module, default), text)


class _Aliases(ast.NodeTransformer):
    """Writes out the names that a module gives to types, as ``Rule = Literal["a", "b"]``."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = resolve(self.module, node)
        value = found[0].values.get(found[1]) if found else None
        return value if isinstance(value, ast.Subscript | ast.BinOp) else node
