"""Python files read as syntax trees, without importing them."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import StepError

_ROOT = Path(__file__).parents[2]
_PACKAGE = "workflow_scripts"


class _Unknown:
    """The default of an option whose value cannot be read from the source."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Module:
    """A parsed file: its top-level definitions, the values of its names, and its imports.

    ``imported`` maps a name to the module and the name there ("" if it is the module itself);
    ``stamp`` tells versions of the file apart.
    """

    stamp: tuple[int, int]
    definitions: dict[str, ast.ClassDef | ast.FunctionDef]
    values: dict[str, ast.expr]
    imported: dict[str, tuple[str, str]]


def parsed(path: Path) -> Module:
    """Return a file's module.

    Raises:
        StepError: It is not valid Python.
    """
    status = path.stat()
    return _parse(path, (status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=256)
def _parse(path: Path, stamp: tuple[int, int]) -> Module:
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise StepError(f"{path} is not valid Python: {where}{error.msg}") from error
    except (ValueError, RecursionError, OSError) as error:
        raise StepError(f"{path} cannot be read as Python: {error}") from error
    module = Module(stamp, {}, {}, {})
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            module.definitions[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                module.imported[alias.asname or alias.name] = (node.module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    module.imported[alias.asname] = (alias.name, "")
        else:
            for name, value, _ in assigned(node):
                if value is not None:
                    module.values[name] = value
    return module


def assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    """Yield the name, the value and the annotation of each plain assignment of a statement."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, node.value, node.annotation
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value, None


def _ours(dotted: str) -> Module | None:
    """Return a module of this project by its dotted name; None if it is not one."""
    if dotted.split(".", maxsplit=1)[0] != _PACKAGE:
        return None
    path = _ROOT / Path(*dotted.split("."))
    path = path.with_suffix(".py") if not path.is_dir() else path / "__init__.py"
    return parsed(path) if path.is_file() else None


def resolve(module: Module, node: ast.expr) -> tuple[Module, str] | None:
    """Return the module and the name in it that an expression such as ``style.WIDTH`` means."""
    if isinstance(node, ast.Name):
        if node.id not in module.imported:
            return module, node.id
        dotted, name = module.imported[node.id]
        there = _ours(dotted)
        return (there, name) if there else None
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        dotted, name = module.imported.get(node.value.id, ("", ""))
        there = _ours(f"{dotted}.{name}".rstrip("."))
        return (there, node.attr) if there else None
    return None


def found_at(module: Module, node: ast.expr) -> tuple[Module, str] | None:
    """Return where an expression's name is defined, through modules that only import it."""
    found = resolve(module, node)
    while found is not None and found[0] is not module and found[1] in found[0].imported:
        module, name = found
        found = resolve(module, ast.Name(name))
    return found


def value_of(module: Module, node: ast.expr) -> Any:
    """Return the value of a literal or of a constant of this project, else ``UNKNOWN``.

    A mapping may have such constants as values. An object of a class of this project, made with
    keywords alone, is the mapping of its keywords.
    """
    if isinstance(node, ast.Dict):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        if len(keys) == len(node.keys):
            pairs = zip(keys, node.values, strict=True)
            return {key: value_of(module, value) for key, value in pairs}
    if isinstance(node, ast.Call):
        made = found_at(module, node.func)
        ours = made is not None and isinstance(made[0].definitions.get(made[1]), ast.ClassDef)
        if not ours or node.args or not all(k.arg for k in node.keywords):
            return UNKNOWN
        return {k.arg: value_of(module, k.value) for k in node.keywords}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        found = found_at(module, node)
    if found is None or found[1] not in found[0].values:
        return UNKNOWN
    there, name = found
    return value_of(there, there.values[name]) if there.values[name] is not node else UNKNOWN


def family(module: Module, node: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef | None]]:
    """Yield a class and those that it inherits from, nearest first; None for one not seen."""
    yield module, node
    for base in node.bases:
        found = resolve(module, base)
        definition = found[0].definitions.get(found[1]) if found else None
        if found and isinstance(definition, ast.ClassDef) and definition is not node:
            yield from family(found[0], definition)
        elif not _inherits_nothing(module, base):
            yield module, None


def _inherits_nothing(module: Module, base: ast.expr) -> bool:
    """Return whether a base class is one of torch's, or object: it has no options to pass on."""
    while isinstance(base, ast.Attribute):
        base = base.value
    name = base.id if isinstance(base, ast.Name) else ""
    return module.imported.get(name, (name, ""))[0].split(".")[0] in ("torch", "object")
