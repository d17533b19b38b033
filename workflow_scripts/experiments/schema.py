"""The config's schema: converts numbers given as text, fills in defaults, and words errors."""

import copy
import functools
import math
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from workflow_scripts.common.errors import StepError, nearest

Schema = dict[str, Any]

SCHEMA_PATH = Path(__file__).with_name("config.schema.yaml")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMERAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_DEEPEST = 50
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, line separators
_TYPES = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


@functools.cache
def whole_schema() -> Schema:
    """Return the schema of the config, with each ``$ref`` replaced by what it refers to."""
    text = SCHEMA_PATH.read_text(encoding="utf-8")
    schema = yaml.load(text, _LOADER)
    definitions = schema.pop("$defs")

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            definition = definitions[node["$ref"].removeprefix("#/$defs/")]
            node = definition | {key: value for key, value in node.items() if key != "$ref"}
        return {key: inlined(value) for key, value in node.items()}

    return inlined(schema)


def schema_at(section: str, keys: list[str]) -> Schema | None:
    """Return the schema of a value below a section; None if there is no such key.

    ``{}`` accepts any value, as for the options of a variant.
    """
    return _below(whole_schema()["properties"][section], keys)


def _below(schema: Schema, keys: list[str]) -> Schema | None:
    if not keys:
        return schema
    for alternative in schema.get("anyOf", ()):
        found = _below(alternative, keys)
        if found is not None:
            return found
    types = _types(schema)
    if types and "object" not in types:
        return None
    if keys[0] in schema.get("properties", {}):
        return _below(schema["properties"][keys[0]], keys[1:])
    others = schema.get("additionalProperties", "anyOf" not in schema)
    if isinstance(others, dict):
        return _below(others, keys[1:])
    return {} if others else None


def _types(schema: Schema) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


# --- Plain values ----------------------------------------------------------------------------


def check_plain(value: Any, place: str = "", within: tuple[int, ...] = ()) -> None:
    """Check that a config consists of strings, finite numbers, booleans, null, lists and mappings.

    Raises:
        StepError: A value has another type (such as a date in YAML), or a string contains line
            breaks or other control characters, which would break files that are read line by line.
    """
    if isinstance(value, dict | list):
        if id(value) in within or len(within) > _DEEPEST:
            raise StepError(f"config: {place!r} contains itself or is nested too deeply")
        inside = (*within, id(value))
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not isinstance(key, str):
                where = f"in {place!r}" if place else "at the top level"
                raise StepError(f"config: the key {key!r} {where} is not text; put it in quotes")
            _check_characters(str(key), join(place, key))
            check_plain(item, join(place, key), inside)
    elif isinstance(value, str):
        # Only captions may span several lines, which are joined.
        _check_characters(" ".join(value.split()) if place.endswith(".caption") else value, place)
    elif isinstance(value, float) and not math.isfinite(value):
        raise StepError(f"config: {place!r} must be a finite number, got {value}")
    elif not isinstance(value, int | float | None):
        raise StepError(
            f"config: {place!r} is parsed as {type(value).__name__} by YAML ({value}); put it in "
            "quotes if it is text"
        )


def _check_characters(text: str, place: str) -> None:
    wrong = next((c for c in text if unicodedata.category(c) in _CONTROL), None)
    if wrong is not None:
        raise StepError(f"config: {place!r} contains the control character {wrong!r}; remove it")


def join(place: str, key: Any) -> str:
    """Return the place in the config of a key of a mapping, or of an item of a list."""
    if isinstance(key, int):
        return f"{place}[{key}]"
    return f"{place}.{key}" if place else str(key)


def number_of(value: Any, whole: bool = False) -> Any:
    """Return a number given as text, such as ``1e-3``, as a number; return other values unchanged.

    Args:
        value: Any value.
        whole: Convert 1e5 to 100000 instead of 100000.0.
    """
    number = value
    if isinstance(value, str) and _NUMERAL.fullmatch(value.strip()):
        text = value.strip()
        number = int(text) if text.lstrip("+-").isdecimal() else float(text)
        if not math.isfinite(number):
            return value
    if whole and isinstance(number, float) and number.is_integer():
        return int(number)
    return number


def with_numbers(value: Any, schema: Schema) -> Any:
    """Return ``value`` with text converted to numbers where the schema requires numbers.

    YAML 1.1 parses 1e-3 as text. Lists and mappings are changed in place.
    """
    alternatives = [schema, *schema.get("anyOf", ())]
    if isinstance(value, dict):
        for alternative in alternatives:
            named = alternative.get("properties", {})
            others = alternative.get("additionalProperties")
            for key, item in value.items():
                sub = named.get(key, others)
                if isinstance(sub, dict):
                    value[key] = with_numbers(item, sub)
        return value
    if isinstance(value, list):
        for alternative in alternatives:
            if "items" in alternative:
                value[:] = [with_numbers(item, alternative["items"]) for item in value]
        return value
    wanted = {name for alternative in alternatives for name in _types(alternative)}
    if "string" in wanted or not wanted & {"integer", "number"}:
        return value
    return number_of(value, whole="number" not in wanted)


def fill_defaults(value: Any, schema: Schema) -> None:
    """Fill in missing keys that have a default in the schema, in place."""
    if isinstance(value, list) and "items" in schema:
        for item in value:
            fill_defaults(item, schema["items"])
    if not isinstance(value, dict):
        return
    for key, sub in schema.get("properties", {}).items():
        if key not in value and "default" in sub:
            value[key] = copy.deepcopy(sub["default"])
    others = schema.get("additionalProperties")
    for key, item in value.items():
        sub = schema.get("properties", {}).get(key, others)
        if isinstance(sub, dict):
            fill_defaults(item, sub)


# --- Errors as sentences ---------------------------------------------------------------------


def check_against(value: Any, schema: Schema, place: str = "") -> None:
    """Check a value against a part of the schema.

    Raises:
        StepError: The first error, in one sentence.
    """
    validator = Draft202012Validator(schema)
    # A misspelt required key is also reported as missing; the misspelling is the better message.
    errors = sorted(validator.iter_errors(value), key=lambda e: e.validator == "required")
    if errors:
        raise StepError(f"config: {_sentence(errors[0], place)}")


def _sentence(error: ValidationError, place: str) -> str:
    """Return an error as a sentence; ``place`` is that of the checked value."""
    for key in error.absolute_path:
        place = join(place, key)
    return _at(error, place)


def _at(error: ValidationError, place: str) -> str:
    return _SENTENCES.get(error.validator, _any_other)(error, place)


def as_written(value: Any) -> str:
    """Return a value as it is written in the config."""
    if isinstance(value, dict | list):
        kind = "a mapping" if isinstance(value, dict) else "a list"
        return kind if value else f"an empty {kind.removeprefix('a ')}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def _any_other(error: ValidationError, place: str) -> str:
    return f"{place!r}: {error.message}{_meaning(error)}"


def _meaning(error: ValidationError) -> str:
    meaning = error.schema.get("description", "")
    return f" ({meaning.rstrip('.')})" if meaning else ""


def _unknown_key(error: ValidationError, place: str) -> str:
    known = list(error.schema.get("properties", {}))
    wrong = next(key for key in error.instance if key not in known)
    hint = _nested(wrong) if str(wrong).partition(".")[0] in known else nearest(wrong, known)
    return f"unknown key {join(place, wrong)!r}; {hint}"


def _nested(dotted: str) -> str:
    """Return how to write a dotted key in a place that takes none."""
    # Dotted keys are accepted below the name of a start or defence.
    keys = dotted.split(".", 2 if dotted.startswith(("starts.", "defences.")) else -1)
    return f"write it as nested keys, {': {'.join(keys)}: ...{'}' * (len(keys) - 1)}"


def _missing(error: ValidationError, place: str) -> str:
    missing = next(key for key in error.validator_value if key not in error.instance)
    return f"{join(place, missing)!r} is missing{_given_whole(place)}"


def _given_whole(place: str) -> str:
    if place.rpartition(".")[2] in ("trigger", "victims", "captions", "model", "start_change"):
        return f"; {place!r} replaces the whole default"
    return ""


def _type(error: ValidationError, place: str) -> str:
    types = " or ".join(_TYPES[name] for name in _types(error.schema))
    return f"{place!r} must be {types}, got {as_written(error.instance)}{_meaning(error)}"


def _choice(error: ValidationError, place: str) -> str:
    choices = error.validator_value if error.validator == "enum" else [error.validator_value]
    texts = [choice if isinstance(choice, str) else as_written(choice) for choice in choices]
    value = error.instance
    hint = nearest(value, texts) if isinstance(value, str) else f"available: {', '.join(texts)}"
    return f"{place!r} is {as_written(value)}; {hint}"


def _pattern(error: ValidationError, place: str) -> str:
    if "propertyNames" in error.absolute_schema_path:
        # The instance is the key itself.
        return f"{join(place, error.instance)!r} is not a valid name{_meaning(error)}"
    return f"{place!r} cannot be {as_written(error.instance)}{_meaning(error)}"


def _size(error: ValidationError, place: str) -> str:
    if not error.instance:
        return f"{place!r} is empty, but needs at least one value{_meaning(error)}"
    number = len(error.instance)
    return f"{place!r} has {number} values, but needs {error.validator_value}{_meaning(error)}"


def _unique(error: ValidationError, place: str) -> str:
    values = error.instance
    twice = next(v for n, v in enumerate(values) if v in values[:n])
    return f"{place!r} lists {as_written(twice)} twice; remove one"


def _alternatives(error: ValidationError, place: str) -> str:
    """Return the error of the alternative whose type matches the value."""
    if all(list(alternative) == ["required"] for alternative in error.validator_value):
        ways = " or ".join(
            " and ".join(alternative["required"]) for alternative in error.validator_value
        )
        return f"{place!r} needs either {ways}"
    for inner in sorted(error.context, key=lambda e: e.validator == "required"):
        of_other_type = inner.validator in ("type", "enum", "const") and not inner.relative_path
        if not of_other_type:
            for key in inner.relative_path:
                place = join(place, key)
            return _at(inner, place)
    wanted = " or ".join(dict.fromkeys(_ways(error.schema)))
    return f"{place!r} must be {wanted}, got {as_written(error.instance)}{_meaning(error)}"


_SENTENCES = {
    "additionalProperties": _unknown_key,
    "required": _missing,
    "type": _type,
    "enum": _choice,
    "const": _choice,
    "pattern": _pattern,
    "minItems": _size,
    "maxItems": _size,
    "minLength": _size,
    "minProperties": _size,
    "uniqueItems": _unique,
    "anyOf": _alternatives,
    "oneOf": _alternatives,
}


def _ways(schema: Schema) -> Iterator[str]:
    """Yield the allowed types and values in words."""
    yield from (_TYPES[name] for name in _types(schema))
    for choice in schema.get("enum", [schema["const"]] if "const" in schema else []):
        yield as_written(choice)
    for alternative in schema.get("anyOf", ()):
        yield from _ways(alternative)
