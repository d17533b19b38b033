"""Check option values of variants against type annotations, given as source text.

``Annotated[int, ">= 1"]`` restricts the range of a number, and ``Literal["a", "b"]`` lists the
valid values. Annotations that are not understood accept any value.
"""

import ast
import operator
from collections.abc import Callable, Iterator
from typing import Any

_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    ">=": ("of at least", operator.ge),
    "<=": ("of at most", operator.le),
    ">": ("greater than", operator.gt),
    "<": ("less than", operator.lt),
}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "None": "null",
}
_LISTS = {"list", "List", "tuple", "Tuple", "Sequence", "Iterable", "Collection"}
_MAPPINGS = {"dict", "Dict", "Mapping"}


def problem(annotation: str, value: Any) -> str | None:
    """Return None if a value fits its annotation, else a description of the valid values."""
    tree = _tree(annotation)
    if tree is None or _fits(tree, value):
        return None
    return " or ".join(dict.fromkeys(_words(tree)))


def wants_number(annotation: str) -> type | None:
    """Return ``float`` or ``int`` if an annotation accepts numbers but not text, else None.

    Text such as ``1e-3``, which YAML does not read as a number, can then be converted.
    """
    tree = _tree(annotation)
    found = list(_words(tree)) if tree is not None else []
    if any(word.startswith(_WORDS["float"]) for word in found):
        return None if _WORDS["str"] in found else float
    if any(word.startswith(_WORDS["int"]) for word in found):
        return None if _WORDS["str"] in found else int
    return None


def literals(annotation: str) -> list[Any]:
    """Return the values listed in the ``Literal``s of an annotation."""
    tree = _tree(annotation)
    return [] if tree is None else list(_literals(tree))


def _tree(annotation: str) -> ast.expr | None:
    try:
        return ast.parse(annotation, mode="eval").body if annotation else None
    except (SyntaxError, ValueError, RecursionError):
        return None


def _alternatives(tree: ast.expr) -> list[ast.expr] | None:
    """Return the members of a union; None if it is not one."""
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        quoted = _tree(tree.value)
        return None if quoted is None else [quoted]
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        return [tree.left, tree.right]
    name, arguments = _subscript(tree)
    if name == "Union":
        return arguments
    return [*arguments, ast.Constant(None)] if name == "Optional" else None


def _subscript(tree: ast.expr) -> tuple[str, list[ast.expr]]:
    if not isinstance(tree, ast.Subscript):
        return "", []
    inner = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
    return _name(tree.value), list(inner)


def _name(tree: ast.expr) -> str:
    if isinstance(tree, ast.Constant) and tree.value is None:
        return "None"
    return getattr(tree, "id", getattr(tree, "attr", ""))


def _fits(tree: ast.expr, value: Any) -> bool:
    members = _alternatives(tree)
    if members is not None:
        return any(_fits(member, value) for member in members)
    name, arguments = _subscript(tree)
    name = name or _name(tree)
    if name == "Literal":
        return any(value == valid and type(value) is type(valid) for valid in _literals(tree))
    if name == "Annotated":
        limits = [_limit(text) for text in arguments[1:]]
        return _fits(arguments[0], value) and all(
            compare(value, limit) for _, compare, limit in filter(None, limits)
        )
    if name in _LISTS:
        item = arguments[0] if arguments else ast.Name("Any")
        return isinstance(value, list | tuple) and all(_fits(item, element) for element in value)
    if name in _MAPPINGS:
        item = arguments[1] if len(arguments) > 1 else ast.Name("Any")
        return isinstance(value, dict) and all(_fits(item, element) for element in value.values())
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kinds = {
        "int": number and isinstance(value, int),
        "float": number,
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "None": value is None,
    }
    return kinds.get(name, True)


def _words(tree: ast.expr) -> Iterator[str]:
    members = _alternatives(tree)
    name, arguments = _subscript(tree)
    name = name or _name(tree)
    if members is not None:
        for member in members:
            yield from _words(member)
    elif name == "Literal":
        yield from (repr(valid) for valid in _literals(tree))
    elif name == "Annotated":
        limits = [
            f"{words} {limit:g}" for words, _, limit in filter(None, map(_limit, arguments[1:]))
        ]
        yield " ".join([next(_words(arguments[0])), " and ".join(limits)]).strip()
    elif name in _LISTS:
        yield "a list"
    elif name in _MAPPINGS:
        words = [word for item in arguments[1:] for word in _words(item)]
        yield f"a mapping to {' or '.join(words)}" if words else "a mapping"
    else:
        yield _WORDS.get(name, "another value")


def _literals(tree: ast.expr) -> Iterator[Any]:
    members = _alternatives(tree)
    for member in members or ():
        yield from _literals(member)
    name, arguments = _subscript(tree)
    if name == "Literal":
        yield from (node.value for node in arguments if isinstance(node, ast.Constant))
    elif name in _LISTS:
        for member in arguments:
            yield from _literals(member)


def _limit(tree: ast.expr) -> tuple[str, Callable[[Any, Any], bool], float] | None:
    """Parse a limit such as ``">= 1"``."""
    text = tree.value if isinstance(tree, ast.Constant) else None
    words = text.split() if isinstance(text, str) else []
    if len(words) != 2 or words[0] not in _LIMITS:
        return None
    return (*_LIMITS[words[0]], float(words[1]))
