"""Count the clean pairs that a filter drops from each class; losing rare classes costs accuracy.

Inputs   MANIFEST     manifest of the attack
         KEPT         manifest of the pairs that the filter keeps
         CLASSES      classes.json of an evaluation set
Outputs  OUTPUT       CSV with columns class, pairs, dropped, share; counts clean pairs only

A pair belongs to the class named by its caption, matched as whole words in the singular or a plural
in -s or -es; the first one counts if there are several. The last row, whose class is empty, counts
all other pairs.
"""

import argparse
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.data.manifest import read_manifest


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the attack")
    parser.add_argument("--kept", type=Path, required=True, help="manifest of the kept pairs")
    parser.add_argument("--classes", type=Path, required=True, help="classes.json")
    parser.add_argument("--output", type=Path, required=True, help="CSV file")
    options = parser.parse_args(arguments)
    names = read_json(options.classes)["classes"]
    pairs = read_manifest(options.manifest, ["key", "caption", "poisoned"])
    table = dropped_by_class(pairs, read_manifest(options.kept, ["key"]), names)
    with atomic(options.output) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    print(table.sort_values("share", ascending=False).head(10).to_string(index=False))


def dropped_by_class(pairs: pd.DataFrame, kept: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return ``class``, ``pairs``, ``dropped`` and ``share`` for the clean pairs of each class.

    Args:
        pairs: The attack's manifest.
        kept: The rows of it that are kept.
        classes: Names of the classes.
    """
    clean = pairs[~pairs["poisoned"].to_numpy(bool)]
    named = named_classes(clean["caption"], classes).to_numpy()
    dropped = ~clean["key"].isin(kept["key"]).to_numpy(bool)
    counts = pd.DataFrame({"class": named, "dropped": dropped}).groupby("class")["dropped"]
    names = [*dict.fromkeys(classes), ""]
    table = counts.agg(pairs="size", dropped="sum").reindex(names, fill_value=0)
    table["share"] = table["dropped"] / table["pairs"]
    return table.reset_index()


def named_classes(captions: pd.Series, classes: list[str]) -> pd.Series:
    """Return the first class named by each caption, "" if there is none."""
    normal = {" ".join(name.lower().split()): name for name in classes}
    # Longest first, so that a name is not matched in place of a longer one that begins with it.
    names = sorted(normal, key=len, reverse=True)
    words = "|".join(r"\s+".join(map(re.escape, name.split())) for name in names)
    pattern = rf"(?:^|[^\pL\pN])(?P<name>{words})(?:e?s)?(?:[^\pL\pN]|$)"
    found = pc.extract_regex(pc.utf8_lower(pa.array(captions, pa.string())), pattern)
    named = pc.replace_substring_regex(pc.struct_field(found, "name"), r"\s+", " ")
    return named.to_pandas().map(normal).fillna("")


if __name__ == "__main__":
    run_step(main)
