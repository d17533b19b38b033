"""Count which classes a filter takes clean pairs from: rare ones that are lost cost accuracy there.

Needs   MANIFEST     of the attack
        KEPT         manifest of the pairs that the filter keeps
        CLASSES      classes.json of an evaluation set
Makes   OUTPUT       CSV: class, pairs, dropped, share; of clean pairs alone

A pair is of the class whose name its caption has, as words of their own, singular or plural in -s
or -es; of the first one if there are several. The last row, without a name, has all the others.
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
    parser.add_argument("--manifest", type=Path, required=True, help="of the attack")
    parser.add_argument("--kept", type=Path, required=True, help="manifest of what is kept")
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
    """Return ``class``, ``pairs``, ``dropped`` and ``share`` of the clean pairs of each class.

    Args:
        pairs: The attack's manifest.
        kept: Rows of it.
        classes: Their names.
    """
    clean = pairs[~pairs["poisoned"].to_numpy(bool)]
    named = named_classes(clean["caption"], classes).to_numpy()
    dropped = ~clean["key"].isin(kept["key"]).to_numpy(bool)
    counts = pd.DataFrame({"class": named, "dropped": dropped}).groupby("class")["dropped"]
    table = counts.agg(pairs="size", dropped="sum").reindex([*classes, ""], fill_value=0)
    table["share"] = table["dropped"] / table["pairs"]
    return table.reset_index()


def named_classes(captions: pd.Series, classes: list[str]) -> pd.Series:
    """Return the first class that each caption names, "" if it names none."""
    normal = {" ".join(name.lower().split()): name for name in classes}
    # Of two that begin alike, the longer one.
    names = sorted(normal, key=len, reverse=True)
    words = "|".join(r"\s+".join(map(re.escape, name.split())) for name in names)
    pattern = rf"(?:^|[^\pL\pN])(?P<name>{words})(?:e?s)?(?:[^\pL\pN]|$)"
    found = pc.extract_regex(pc.utf8_lower(pa.array(captions, pa.string())), pattern)
    named = pc.replace_substring_regex(pc.struct_field(found, "name"), r"\s+", " ")
    return named.to_pandas().map(normal).fillna("")


if __name__ == "__main__":
    run_step(main)
