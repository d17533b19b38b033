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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import write_json
from workflow_scripts.common.seeds import generator
from workflow_scripts.data import overlay
from workflow_scripts.data.manifest import read_manifest, read_rows, write_manifest

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
    clean = read_manifest(options.manifest, ["poisoned"])["poisoned"].to_numpy(bool)
    if clean.any():
        raise StepError(f"{options.manifest} is poisoned; a clean split is of the subset itself")
    victims = _read_victims(options)
    split = clean_split(
        len(clean),
        victims,
        options.pairs,
        choose=options.choose,
        held_out=options.held_out,
        poisoned_left=options.poisoned_left,
        leave_out_victims=options.leave_out_victims,
        seed=options.seed,
    )
    report = split.report(victims)
    write_json(options.output.with_name("report.json"), report)
    write_manifest(options.output, _rows_of(split, options))
    print(", ".join(f"{name}: {number}" for name, number in report.items()))


@dataclass(frozen=True)
class Split:
    """The rows of a split, int64, in the order in which they are stored.

    Attributes:
        pairs: Rows of the subset, ascending, to train on.
        held_out: Further ones, ascending.
        left: Rows of poisoned pairs that are put back in.
        places: int64, likewise: the places in ``pairs`` that they take.
    """

    pairs: np.ndarray
    held_out: np.ndarray
    left: np.ndarray
    places: np.ndarray

    def report(self, victims: np.ndarray | None) -> dict[str, Any]:
        """Return what is in it: see the module.

        Args:
            victims: bool [rows of the subset]: which ones the attack poisoned; None if unknown.
        """
        replaced = np.zeros(len(self.pairs), bool)
        replaced[self.places] = True
        return {
            "pairs": len(self.pairs),
            "held_out": len(self.held_out),
            "originals_of_victims": (
                None if victims is None else int((victims[self.pairs] & ~replaced).sum())
            ),
            "poisoned_left": len(self.left),
        }


def clean_split(
    rows: int,
    victims: np.ndarray | None,
    pairs: int,
    *,
    choose: str | None = None,
    held_out: int = 0,
    poisoned_left: int = 0,
    leave_out_victims: bool = False,
    seed: int = 0,
) -> Split:
    """Take ``pairs`` rows of the unpoisoned subset, in its order.

    Args:
        rows: Those of the subset.
        victims: bool [rows]: which ones the attack poisoned; None if neither of the next two is
            wanted.
        pairs: Number of rows to take.
        choose: ``"random"`` draws them by seed; None takes the last ones.
        held_out: Number of further rows, put behind those: the ones before them, or the next ones
            of the draw.
        poisoned_left: How many poisoned pairs are put back in, drawn by seed.
        leave_out_victims: Leave out the originals of poisoned pairs.
        seed: Decides which pairs are drawn, which poisoned pairs, and whose places they take.

    Raises:
        StepError: There are too few pairs, or too few poisoned ones.
    """
    poisoned = np.zeros(rows, bool) if victims is None else victims
    order = np.flatnonzero(~poisoned) if leave_out_victims else np.arange(rows)
    wanted = pairs + held_out
    if pairs < 1 or wanted > len(order):
        what = "pairs that are no victims" if leave_out_victims else "pairs"
        raise StepError(
            f"the clean split is to have {wanted} pairs, {held_out} of them held out, but there "
            f"are {len(order)} {what}"
        )
    if choose == RANDOM:
        # The last ones of a random order: a larger number extends a smaller one.
        order = generator(seed, "clean pairs").permutation(order)
    kept = np.sort(order[len(order) - wanted : len(order) - pairs])
    taken = np.sort(order[len(order) - pairs :])
    left = places = np.empty(0, "int64")
    if poisoned_left:
        random = generator(seed, "poisoned left")
        left = _draw(np.flatnonzero(poisoned), kept, poisoned_left, pairs, random)
        places = _places(taken, left, random)
    return Split(taken, kept, left, places)


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


def _places(rows: np.ndarray, victims: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the place in ``rows``, ascending ones, that each poisoned pair takes."""
    places = np.searchsorted(rows, victims).clip(max=len(rows) - 1)
    inside = rows[places] == victims
    others = np.setdiff1d(np.arange(len(rows)), places[inside])
    places[~inside] = random.permutation(others)[: (~inside).sum()]
    return places


def _read_victims(options: argparse.Namespace) -> np.ndarray | None:
    """Return which rows are poisoned: bool [rows]."""
    clean, path = options.manifest, options.poisoned_manifest
    if path is None:
        if options.poisoned_left or options.leave_out_victims:
            raise StepError(
                "--poisoned-left and --leave-out-victims need --poisoned-manifest, which says "
                "which pairs the attack poisoned"
            )
        return None
    base = overlay.base_of(path)
    if base is None or base.resolve() != clean.resolve():
        keys = (read_manifest(file, ["key"])["key"] for file in (clean, path))
        if not next(keys).equals(next(keys)):
            raise StepError(f"{path} is not {clean} poisoned: its keys are others")
    return read_manifest(path, ["poisoned"])["poisoned"].to_numpy(bool)


def _rows_of(split: Split, options: argparse.Namespace) -> pd.DataFrame:
    """Return the split's manifest; its pairs are few, so that it is a complete one."""
    wanted = np.concatenate([split.pairs, split.held_out])
    frame = read_rows(options.manifest, np.sort(wanted)).loc[wanted].reset_index(drop=True)
    if len(split.left):
        poisoned = read_rows(options.poisoned_manifest, np.sort(split.left)).loc[split.left]
        for name in frame.columns:
            frame.iloc[split.places, frame.columns.get_loc(name)] = poisoned[name].to_numpy()
    return frame


if __name__ == "__main__":
    run_step(main)
