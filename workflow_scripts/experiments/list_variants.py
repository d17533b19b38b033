"""List all variants that the config accepts: triggers, loss terms, artefacts, measures and more.

    snakemake variants --cores 1

Prints the variants of each kind as Markdown: a one-line summary, and the options with their
defaults. The modules are parsed, not imported.
"""

import argparse
import ast
from collections.abc import Iterator

from workflow_scripts.common import variants
from workflow_scripts.common.errors import run_step
from workflow_scripts.common.syntax import UNKNOWN


def main(arguments: list[str] | None = None) -> None:
    """Print the list."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    print("\n".join(lines()))


def lines() -> Iterator[str]:
    """Yield the lines of the list."""
    yield "# Variants"
    yield ""
    yield "Output of `snakemake variants --cores 1`: all variants that the config accepts, by kind,"
    yield "with their options and defaults. The path of a file ending in `.py` is accepted as well."
    for kind, declared in variants.KINDS.items():
        yield f"\n## {declared.word[0].upper()}{declared.word[1:]}s: `{declared.folder}/`\n"
        for name in variants.names(kind):
            yield f"- `{name}`: {_summary(kind, name)}"
            for option, details in variants.options(kind, name).items():
                yield f"  - {_option(option, details)}"


def _summary(kind: str, name: str) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(variants.source(kind, name).read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


def _option(name: str, option: variants.Option) -> str:
    if option.required:
        default = "required"
    elif option.default is UNKNOWN:
        default = "default in the source"
    else:
        default = f"`{option.default!r}`"
    return f"`{name}`: {default}" + (f" ({_type(option.annotation)})" if option.annotation else "")


def _type(annotation: str) -> str:
    """Return a type in words: its choices, or its type and limits."""
    return _in_words(ast.parse(annotation, mode="eval").body)


def _in_words(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp):
        return f"{_in_words(node.left)} or {_in_words(node.right)}"
    if isinstance(node, ast.Subscript):
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        match ast.unparse(node.value):
            case "Literal":
                return " or ".join(f"`{ast.unparse(part)}`" for part in parts)
            case "Annotated":
                return ", ".join([_in_words(parts[0]), *map(ast.literal_eval, parts[1:])])
            case "Sequence" | "list":
                return f"list of {_in_words(parts[0])}"
    text = ast.unparse(node)
    return {"None": "null", "str": "text"}.get(text, text)


if __name__ == "__main__":
    run_step(main)
