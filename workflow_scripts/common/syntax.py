"""Read definitions and values from the syntax trees of Python files, without importing them."""

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
    """Marks a value that cannot be read from the source."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Module:
    """A parsed file.

    Attributes:
        stamp: Modification time and size, which identify a version of the file.
        definitions: Top-level classes and functions by name.
        values: Expressions assigned to top-level names.
        imported: Imported names, mapped to the module and the name in it ("" for the module).
    """

    stamp: tuple[int, int]
    definitions: dict[str, ast.ClassDef | ast.FunctionDef]
    values: dict[str, ast.expr]
    imported: dict[str, tuple[str, str]]


def parsed(path: Path) -> Module:
    """Parse a file; unchanged files are cached.

    Raises:
        StepError: The file is not valid Python.
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
    """Yield the name, value and annotation of each assignment to a plain name in a statement."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, node.value, node.annotation
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value, None


def _project_module(dotted: str) -> Module | None:
    """Return a module of this project by its dotted name; None for other modules."""
    if dotted.split(".", maxsplit=1)[0] != _PACKAGE:
        return None
    path = _ROOT / Path(*dotted.split("."))
    path = path.with_suffix(".py") if not path.is_dir() else path / "__init__.py"
    return parsed(path) if path.is_file() else None


def resolve(module: Module, node: ast.expr) -> tuple[Module, str] | None:
    """Return the module and the name in it that an expression such as ``style.WIDTH`` refers to."""
    if isinstance(node, ast.Name):
        if node.id not in module.imported:
            return module, node.id
        dotted, name = module.imported[node.id]
        source = _project_module(dotted)
        return (source, name) if source else None
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        dotted, name = module.imported.get(node.value.id, ("", ""))
        source = _project_module(f"{dotted}.{name}".rstrip("."))
        return (source, node.attr) if source else None
    return None


def found_at(module: Module, node: ast.expr) -> tuple[Module, str] | None:
    """Return where the name of an expression is defined, following imports across modules."""
    found = resolve(module, node)
    while found is not None and found[0] is not module and found[1] in found[0].imported:
        module, name = found
        found = resolve(module, ast.Name(name))
    return found


def value_of(module: Module, node: ast.expr) -> Any:
    """Return the value of a literal or of a constant of this project, else ``UNKNOWN``.

    Values of a mapping may be such constants. A call of a class of this project with keyword
    arguments only evaluates to the mapping of its arguments.
    """
    if isinstance(node, ast.Dict):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        if len(keys) == len(node.keys):
            pairs = zip(keys, node.values, strict=True)
            return {key: value_of(module, value) for key, value in pairs}
    if isinstance(node, ast.Call):
        made = found_at(module, node.func)
        known = made is not None and isinstance(made[0].definitions.get(made[1]), ast.ClassDef)
        if not known or node.args or not all(k.arg for k in node.keywords):
            return UNKNOWN
        return {k.arg: value_of(module, k.value) for k in node.keywords}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        found = found_at(module, node)
    if found is None or found[1] not in found[0].values:
        return UNKNOWN
    source, name = found
    return value_of(source, source.values[name]) if source.values[name] is not node else UNKNOWN


def family(module: Module, node: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef | None]]:
    """Yield a class and its base classes, nearest first; None for a base that cannot be found."""
    yield module, node
    for base in node.bases:
        found = resolve(module, base)
        definition = found[0].definitions.get(found[1]) if found else None
        if found and isinstance(definition, ast.ClassDef) and definition is not node:
            yield from family(found[0], definition)
        elif not _inherits_nothing(module, base):
            yield module, None


def _inherits_nothing(module: Module, base: ast.expr) -> bool:
    """Return whether a base class is ``object`` or from torch, and so contributes no options."""
    while isinstance(base, ast.Attribute):
        base = base.value
    name = base.id if isinstance(base, ast.Name) else ""
    return module.imported.get(name, (name, ""))[0].split(".")[0] in ("torch", "object")
