"""Variants: triggers, loss terms, measures and others, each a module with one public name.

The config refers to a variant by the name of a module in the folder of its kind, or by the path of
a user's Python file. Its options are read from the source without importing it, so that checking
the config is fast and does not require torch.
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
        word: Name of the kind in messages.
        folder: Folder of its modules, relative to ``workflow_scripts/``.
        public: Name of the class or function that each module defines.
        given: Parameters passed by the workflow: by name to a class, by position to a function.
        base: Required base class of the public class, if any.
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
    """An option of a variant.

    Attributes:
        required: Whether the option has no default.
        default: The default; None if the option is required, ``syntax.UNKNOWN`` if the default is
            neither a literal nor a constant.
        annotation: Source text of the type annotation; "" if there is none.
    """

    required: bool
    default: Any
    annotation: str


def names(kind: str) -> list[str]:
    """Return the sorted names of the variants of a kind; modules named ``_...`` are excluded."""
    folder = _ROOT / _PACKAGE / KINDS[kind].folder
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def source(kind: str, name: str) -> Path:
    """Return the file of a variant.

    Args:
        kind: One of ``KINDS``.
        name: Name of a module (``"yellow"``), or path of a user's file ending in ``.py``, relative
            to the working directory.

    Raises:
        StepError: The variant or file does not exist.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            word = KINDS[kind].word
            raise StepError(f"file {name!r} of the {word} does not exist; correct its path")
        return path
    return _module_file(kind, name)


@functools.cache
def _module_file(kind: str, name: str) -> Path:
    path = _ROOT / _PACKAGE / KINDS[kind].folder / f"{name}.py"
    if not name.isidentifier() or name.startswith("_") or not path.is_file():
        raise StepError(
            f"unknown {KINDS[kind].word} {name!r}; {nearest(name, names(kind))} (to use your own "
            "file, give its path, ending in .py)"
        )
    return path


def options(kind: str, name: str) -> dict[str, Option]:
    """Return the options of a variant by name, without the parameters passed by the workflow.

    Raises:
        StepError: The variant does not exist, cannot be parsed, or lacks the public class or
            function.
    """
    return dict(_signature(kind, name)[0])


def takes_any(kind: str, name: str) -> bool:
    """Return whether a variant accepts arbitrary options (``**options``).

    Raises:
        StepError: As :func:`options`.
    """
    return _signature(kind, name)[1]


def check_options(kind: str, name: str, given: Iterable[str]) -> None:
    """Check the names of the options passed to a variant.

    Raises:
        StepError: An option is unknown or missing; or as :func:`options`.
    """
    known, more = _signature(kind, name)
    word = KINDS[kind].word
    for option in given:
        if option not in known and not more:
            hint = nearest(option, known) if known else "it has no options"
            raise StepError(f"{word} {name!r} has no option {option!r}; {hint}")
    for option, declared in known.items():
        if declared.required and option not in given:
            raise StepError(f"{word} {name!r} needs the option {option!r}; add it")


def attribute(kind: str, name: str, attribute: str, default: Any) -> Any:
    """Return the value of a constant attribute of a variant, or ``default``.

    For a class, this is a class attribute, possibly inherited; for a function, a constant of its
    module.

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
    for defining, definition in family(module, node):
        for statement in definition.body if definition else ():
            for target, value, _ in assigned(statement):
                if target == attribute and value is not None:
                    return value_of(defining, value)
    return _MISSING


def load(kind: str, name: str) -> Any:
    """Import a variant and return its class or function.

    Raises:
        StepError: As :func:`options`, or an import of the user's file fails.
    """
    _public(kind, name)
    return getattr(_module(kind, name), KINDS[kind].public)


def companion(kind: str, name: str, function: str) -> Any:
    """Import a variant and return another function of its module, or None if there is none.

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
    # Dataclasses with postponed annotations look up their module in sys.modules.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise StepError(f"{name} cannot be imported: {error}") from error
    return module


def _public(kind: str, name: str) -> tuple[Module, Definition | None]:
    """Return a variant's public class or function; None if its definition cannot be found."""
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
    raise StepError(
        f"{name} must define the {what} {declared.public} to be used as {declared.word}"
    )


def _check_base(declared: Kind, name: str, module: Module, node: Definition) -> None:
    if declared.base is None:
        return
    classes = [n for _, n in family(module, node)] if isinstance(node, ast.ClassDef) else []
    if any(definition is None or definition.name == declared.base for definition in classes):
        return
    raise StepError(
        f"class {declared.public} of {name} must be a subclass of {declared.base} "
        f"(from {_PACKAGE}.{declared.folder.replace('/', '.')} import {declared.base})"
    )


def _signature(kind: str, name: str) -> tuple[dict[str, Option], bool]:
    """Return the options of a variant, and whether it accepts others as well."""
    path = source(kind, name)
    return _read_signature(kind, name, parsed(path).stamp)


@functools.lru_cache(maxsize=256)
def _read_signature(
    kind: str, name: str, _stamp: tuple[int, int]
) -> tuple[dict[str, Option], bool]:
    accepted, more = _accepted(kind, name)
    given = KINDS[kind].given
    missing = (
        [] if more or KINDS[kind].public.islower() else [n for n in given if n not in accepted]
    )
    if missing:
        raise StepError(
            f"class {KINDS[kind].public} of {name} must accept the parameter {missing[0]!r}, which "
            f"is passed to each {KINDS[kind].word}; add it"
        )
    return {key: option for key, option in accepted.items() if key not in given}, more


def _accepted(kind: str, name: str) -> tuple[dict[str, Option], bool]:
    """Return all options that a class or function accepts, and whether it accepts others.

    The leading parameters of a function, which the workflow passes by position, are excluded.
    """
    module, node = _public(kind, name)
    given = KINDS[kind].given
    if isinstance(node, ast.FunctionDef):
        # A function gets its first arguments by position; a factory that replaces a class, by name.
        by_position = KINDS[kind].public.islower()
        return _parameters(module, node, len(given) if by_position else 0)
    if node is None:
        return {}, True
    fields: dict[str, Option] = {}
    for defining, definition in family(module, node):
        if definition is None:
            return fields, True
        init = next((s for s in definition.body if getattr(s, "name", "") == "__init__"), None)
        if isinstance(init, ast.FunctionDef):
            own, more = _parameters(defining, init, 1)
            return own | fields, more
        if _is_dataclass(definition):
            fields = dict(_fields(defining, definition)) | fields
    return fields, False


def _parameters(
    module: Module, node: ast.FunctionDef, skipped: int
) -> tuple[dict[str, Option], bool]:
    declared = node.args
    positional = [*declared.posonlyargs, *declared.args]
    defaults = [None] * (len(positional) - len(declared.defaults)) + declared.defaults
    found = list(zip(positional, defaults, strict=True))[skipped:]
    found += zip(declared.kwonlyargs, declared.kw_defaults, strict=True)
    options = {arg.arg: _option(module, default, arg.annotation) for arg, default in found}
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
                # For a factory, the call itself represents an unknown default.
                default = settings.get("default", value if "default_factory" in settings else None)
            if "init" not in settings or value_of(module, settings["init"]) is not False:
                yield name, _option(module, default, annotation)


def _option(module: Module, default: ast.expr | None, annotation: ast.expr | None) -> Option:
    text = ast.unparse(_Aliases(module).visit(copy.deepcopy(annotation))) if annotation else ""
    if default is None:
        return Option(True, None, text)
    return Option(False, value_of(module, default), text)


class _Aliases(ast.NodeTransformer):
    """Replaces type aliases of a module, such as ``Rule = Literal["a", "b"]``, by their values."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = resolve(self.module, node)
        value = found[0].values.get(found[1]) if found else None
        return value if isinstance(value, ast.Subscript | ast.BinOp) else node
