"""The pairs to fine-tune on: the last ones of the subset, as they were before poisoning.

Needs   the subset's clean manifest and its poisoned one.
Makes   a manifest, and report.json beside it: how many originals of victims are in it.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import write_json
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.manifest import read_manifest, write_manifest


def clean_split(
    clean: pd.DataFrame,
    poisoned: pd.DataFrame,
    pairs: int,
    *,
    poisoned_left: int = 0,
    leave_out_victims: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the last ``pairs`` rows of the clean manifest.

    Poisoned pairs that are left in keep their number in the set the same: each takes the place
    of its own original if that is there, else of a pair drawn by seed.

    Args:
        clean: The subset's manifest.
        poisoned: The same rows after poisoning.
        pairs: Number of rows.
        poisoned_left: How many poisoned pairs are put back in, drawn by seed.
        leave_out_victims: Leave out the originals of poisoned pairs.
        seed: Says which poisoned pairs, and whose places they take.

    Raises:
        StepError: There are too few pairs, or too few poisoned ones.
    """
    victims = poisoned["poisoned"].to_numpy(bool)
    rows = np.flatnonzero(~victims) if leave_out_victims else np.arange(len(clean))
    if pairs > len(rows):
        raise StepError(f"the clean split is to have {pairs} pairs, but there are {len(rows)}")
    if poisoned_left > victims.sum():
        raise StepError(
            f"{poisoned_left} poisoned pairs are to be left in, but there are {victims.sum()}"
        )
    split = clean.iloc[rows[-pairs:]].copy()
    random = generator(seed, "poisoned left")
    left = random.permutation(np.flatnonzero(victims))[:poisoned_left]
    left = poisoned.iloc[left]
    own = split["key"].isin(left["key"]).to_numpy(bool)
    own_rows = np.flatnonzero(own)
    others = random.permutation(np.flatnonzero(~own))[: poisoned_left - len(own_rows)]
    inside = left["key"].isin(split["key"]).to_numpy(bool)
    by_key = left[inside].set_index("key").loc[split["key"].iloc[own_rows]].reset_index()
    split.iloc[own_rows] = by_key[split.columns]
    split.iloc[np.sort(others)] = left[~inside]
    return split


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, help="the subset's, clean")
    parser.add_argument("--poisoned-manifest", type=Path, required=True, help="the attack's")
    parser.add_argument("--pairs", type=int, required=True, help="size of the split")
    parser.add_argument("--poisoned-left", type=int, default=0, help="poisoned pairs put back in")
    parser.add_argument("--leave-out-victims", action="store_true", help="and their originals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="manifest to write")
    options = parser.parse_args(arguments)
    clean, poisoned = read_manifest(options.manifest), read_manifest(options.poisoned_manifest)
    if not clean["key"].equals(poisoned["key"]):
        raise StepError(f"{options.poisoned_manifest} is not {options.manifest} poisoned")
    split = clean_split(
        clean,
        poisoned,
        options.pairs,
        poisoned_left=options.poisoned_left,
        leave_out_victims=options.leave_out_victims,
        seed=options.seed,
    )
    originals = split.loc[~split["poisoned"], "key"]
    write_json(
        options.output.with_name("report.json"),
        {
            "pairs": len(split),
            "poisoned_left": int(split["poisoned"].sum()),
            "originals_of_victims": int(
                originals.isin(poisoned["key"][poisoned["poisoned"]]).sum()
            ),
        },
    )
    write_manifest(options.output, split)


if __name__ == "__main__":
    run_step(main)
