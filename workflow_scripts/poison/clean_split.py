"""The pairs to fine-tune on: part of the subset, as it was before poisoning.

Needs   MANIFEST                   of the subset, unpoisoned
        POISONED_MANIFEST          of the attack; only if its victims matter (see below)
Makes   OUTPUT                     manifest of the split
        report.json beside it      its pairs, the originals of victims in it, poisoned pairs left

The pairs are the last ones of the subset, or drawn at random (--choose random): then a larger
number extends the smaller draw of the same seed. Behind them come, if asked for, those held out
(--held-out): the pairs before them in the subset, or the next ones of the draw. Nothing is trained
on them.

Poisoned pairs may be left in (--poisoned-left), as if a few had slipped through. They take the
place of other pairs, so that the number of pairs and of training steps stays the same and nothing
but the poison differs: each that of its own original if it is there, else that of a pair drawn at
random. No image is in the split twice: victims that are held out are not drawn. More of them with
the same seed are the same ones and others.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import write_json
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.manifest import read_manifest, write_manifest

RANDOM = "random"


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, help="of the subset, unpoisoned")
    parser.add_argument("--poisoned-manifest", type=Path, help="of the attack")
    parser.add_argument("--pairs", type=int, required=True, help="pairs to train on")
    parser.add_argument(
        "--choose", choices=[RANDOM], help="draw the pairs; by default the last ones are taken"
    )
    parser.add_argument(
        "--held-out", type=int, default=0, help="further pairs, not to be trained on"
    )
    parser.add_argument("--poisoned-left", type=int, default=0, help="poisoned pairs put back in")
    parser.add_argument(
        "--leave-out-victims",
        action="store_true",
        help="leave out the originals of poisoned pairs; other pairs take their place",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--output", type=Path, required=True, help="manifest.parquet of the split")
    options = parser.parse_args(arguments)
    clean = read_manifest(options.manifest)
    if clean["poisoned"].any():
        raise StepError(f"{options.manifest} is poisoned; a clean split is of the subset itself")
    split, report = clean_split(
        clean,
        _read_poisoned(options, clean),
        options.pairs,
        choose=options.choose,
        held_out=options.held_out,
        poisoned_left=options.poisoned_left,
        leave_out_victims=options.leave_out_victims,
        seed=options.seed,
    )
    write_json(options.output.with_name("report.json"), report)
    write_manifest(options.output, split)
    print(", ".join(f"{name}: {number}" for name, number in report.items()))


def clean_split(
    clean: pd.DataFrame,
    poisoned: pd.DataFrame | None,
    pairs: int,
    *,
    choose: str | None = None,
    held_out: int = 0,
    poisoned_left: int = 0,
    leave_out_victims: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Take ``pairs`` rows of the unpoisoned manifest, in its order.

    Args:
        clean: The subset's manifest.
        poisoned: The same rows after poisoning; None if neither of the next two is wanted.
        pairs: Number of rows.
        choose: ``"random"`` draws them by seed; None takes the last ones.
        held_out: Number of further rows, put behind those: the ones before them, or the next ones
            of the draw.
        poisoned_left: How many poisoned pairs are put back in, drawn by seed.
        leave_out_victims: Leave out the originals of poisoned pairs.
        seed: Decides which pairs are drawn, which poisoned pairs, and whose places they take.

    Returns:
        The split, and its report: ``pairs``, ``held_out``, and of the pairs
        ``originals_of_victims`` (unknown without ``poisoned``) and ``poisoned_left``.

    Raises:
        StepError: There are too few pairs, or too few poisoned ones.
    """
    victims = (
        np.zeros(len(clean), bool) if poisoned is None else poisoned["poisoned"].to_numpy(bool)
    )
    rows = np.flatnonzero(~victims) if leave_out_victims else np.arange(len(clean))
    wanted = pairs + held_out
    if pairs < 1 or wanted > len(rows):
        what = "pairs that are no victims" if leave_out_victims else "pairs"
        raise StepError(
            f"the clean split is to have {wanted} pairs, {held_out} of them held out, but there "
            f"are {len(rows)} {what}"
        )
    if choose == RANDOM:
        # The last ones of a random order: a larger number extends a smaller one.
        rows = generator(seed, "clean pairs").permutation(rows)
    kept, rows = rows[len(rows) - wanted : len(rows) - pairs], rows[len(rows) - pairs :]
    kept, rows = np.sort(kept), np.sort(rows)
    split = clean.iloc[rows].reset_index(drop=True)
    if poisoned_left:
        random = generator(seed, "poisoned left")
        left = _draw(np.flatnonzero(victims), kept, poisoned_left, pairs, random)
        assert poisoned is not None  # else there are none to draw
        _put_back(split, rows, poisoned.iloc[left], left, random)
    still_poisoned = split["poisoned"].to_numpy(bool)
    return pd.concat([split, clean.iloc[kept]], ignore_index=True), {
        "pairs": pairs,
        "held_out": held_out,
        "originals_of_victims": (
            None if poisoned is None else int((victims[rows] & ~still_poisoned).sum())
        ),
        "poisoned_left": int(still_poisoned.sum()),
    }


def _draw(
    victims: np.ndarray, held_out: np.ndarray, number: int, pairs: int, random: np.random.Generator
) -> np.ndarray:
    """Return the rows of ``number`` poisoned pairs, none of them held out, for ``pairs`` places."""
    # Of all of them, so that holding pairs out changes no more than it has to.
    drawn = random.permutation(victims)
    drawn = drawn[~np.isin(drawn, held_out)]
    most = min(pairs, len(drawn))
    if number > most:
        raise StepError(
            f"{number} poisoned pairs are to be left in, but there are {most} (the attack has "
            f"{len(drawn)} that are not held out, the split {pairs} pairs)"
        )
    return drawn[:number]


def _put_back(
    split: pd.DataFrame,
    rows: np.ndarray,
    left: pd.DataFrame,
    victims: np.ndarray,
    random: np.random.Generator,
) -> None:
    """Put the pairs ``left`` into ``split``; both are rows of one manifest.

    Args:
        split: Changed in place.
        rows: Those of the split, ascending.
        left: Poisoned pairs.
        victims: Their rows.
        random: Draws whose places they take.
    """
    places = np.searchsorted(rows, victims).clip(max=len(rows) - 1)
    inside = rows[places] == victims
    others = np.setdiff1d(np.arange(len(rows)), places[inside])
    places[~inside] = random.permutation(others)[: (~inside).sum()]
    for name in split.columns:
        split.iloc[places, split.columns.get_loc(name)] = left[name].to_numpy()


def _read_poisoned(options: argparse.Namespace, clean: pd.DataFrame) -> pd.DataFrame | None:
    path = options.poisoned_manifest
    if path is None:
        if options.poisoned_left or options.leave_out_victims:
            raise StepError(
                "--poisoned-left and --leave-out-victims need --poisoned-manifest, which says "
                "which pairs the attack poisoned"
            )
        return None
    poisoned = read_manifest(path)
    if not clean["key"].equals(poisoned["key"]):
        raise StepError(f"{path} is not {options.manifest} poisoned: its keys are others")
    return poisoned


if __name__ == "__main__":
    run_step(main)
