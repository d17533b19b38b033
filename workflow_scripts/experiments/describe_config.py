"""Describe every key of the config as Markdown, generated from its schema.

    python -m workflow_scripts.experiments.describe_config

Prints a section for each top-level key with the type, default and meaning of all keys below it.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import run_step
from workflow_scripts.experiments.load_config import combined_config
from workflow_scripts.experiments.schema import whole_schema

Schema = dict[str, Any]
PAPER = Path(__file__).parents[2] / "config.yaml"
_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_WORDS = {"object": "mapping", "array": "list", "string": "text", "integer": "whole number"}
_HEADER = ("| key | type | default | meaning |", "|---|---|---|---|")


def main(arguments: list[str] | None = None) -> None:
    """Print the description."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    print("\n".join(lines()))


def lines() -> Iterator[str]:
    """Yield the lines of the description."""
    yield "# Config"
    yield ""
    yield "All keys of `config.yaml` and of override files. `<name>` is a name of your choice. The"
    yield "default is the value in `config.yaml` or, below a `<name>`, the value used if the key is"
    yield "left out."
    paper = combined_config([PAPER], {})
    for key, schema in whole_schema()["properties"].items():
        yield f"\n## `{key}`\n"
        rows = list(_rows(schema, "", paper.get(key)))
        if schema.get("description"):
            yield f"{_sentence(schema['description'])}\n"
        if rows:
            yield from _HEADER
            yield from rows
        else:
            yield f"Type: {_type(schema)}. Default: {_default(schema, paper.get(key))}."


def _rows(schema: Schema, place: str, paper: Any) -> Iterator[str]:
    """Yield a row for each key below ``place``; ``paper`` is its value in ``config.yaml``."""
    for below in _mappings(schema):
        for key, inner in below.get("properties", {}).items():
            value = paper.get(key) if isinstance(paper, dict) else None
            yield from _row(inner, f"{place}{key}", value, key in below.get("required", ()))
        others = below.get("additionalProperties")
        if isinstance(others, dict) and "propertyNames" in below:
            yield from _row(others, f"{place}<name>", None, False)


def _row(schema: Schema, place: str, paper: Any, required: bool) -> Iterator[str]:
    meaning = _sentence(schema.get("description", ""))
    default = _default(schema, paper) or ("required" if required else "")
    yield f"| `{place}` | {_type(schema)} | {default} | {_cell(meaning)} |"
    yield from _rows(schema, f"{place}.", paper)


def _default(schema: Schema, paper: Any) -> str:
    if paper is not None and not isinstance(paper, dict):
        return _code(paper)
    return _code(schema["default"]) if "default" in schema else ""


def _mappings(schema: Schema) -> Iterator[Schema]:
    """Yield this schema if it describes a mapping, and those of its alternatives that do."""
    if "properties" in schema or "additionalProperties" in schema:
        yield schema
    for alternative in schema.get("anyOf", ()):
        yield from _mappings(alternative)


def _type(schema: Schema) -> str:
    """Return the type of a value in words: its choices, or its type and limits."""
    if "const" in schema:
        return _code(schema["const"])
    if "enum" in schema:
        return " or ".join(map(_code, schema["enum"]))
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    types = schema.get("type", [])
    names = [_WORDS.get(name, name) for name in ([types] if isinstance(types, str) else types)]
    if isinstance(schema.get("items"), dict) and "list" in names:
        names[names.index("list")] = f"list of {_type(schema['items'])}"
    limits = [f"{sign} {schema[key]}" for key, sign in _LIMITS.items() if key in schema]
    return ", ".join([" or ".join(names) or "any", *limits])


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`"


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "?")) else f"{text}."


def _cell(text: str) -> str:
    """Return text for a table cell, with the characters escaped that Markdown would interpret."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("{", "&#123;")


if __name__ == "__main__":
    run_step(main)
