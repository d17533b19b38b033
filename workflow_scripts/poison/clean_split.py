"""Select the clean pairs for fine-tuning: a part of the subset, as it was before poisoning.

Inputs   MANIFEST                   manifest of the unpoisoned subset
         POISONED_MANIFEST          manifest of the attack; only for the options below that use it
Outputs  OUTPUT                     manifest of the split
         report.json beside it      number of pairs, originals of victims, and residual poison

The pairs are the last ones of the subset, or drawn at random (--choose random). With the same seed,
a larger number extends the smaller draw. They are followed by held-out pairs (--held-out), which
are not trained on: the preceding pairs of the subset, or the next ones of the draw.

--poisoned-left adds residual poison, as if the cleaning data had been filtered imperfectly.
Poisoned pairs replace other pairs, so that the number of pairs and training steps stays the same
and only the poison differs: each replaces its own original if that is in the split, otherwise a
randomly drawn pair. No image is duplicated: victims that are held out are not drawn. With the same
seed, a larger number extends the smaller draw.
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
    parser.add_argument(
        "--manifest", type=Path, required=True, help="manifest of the unpoisoned subset"
    )
    parser.add_argument("--poisoned-manifest", type=Path, help="manifest of the attack")
    parser.add_argument("--pairs", type=int, required=True, help="number of training pairs")
    parser.add_argument(
        "--choose", choices=[RANDOM], help="draw the pairs; by default the last ones are taken"
    )
    parser.add_argument(
        "--held-out", type=int, default=0, help="number of further pairs that are not trained on"
    )
    parser.add_argument(
        "--poisoned-left", type=int, default=0, help="number of poisoned pairs to put back in"
    )
    parser.add_argument(
        "--leave-out-victims",
        action="store_true",
        help="replace the originals of poisoned pairs with other pairs",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws")
    parser.add_argument("--output", type=Path, required=True, help="manifest.parquet of the split")
    options = parser.parse_args(arguments)
    clean = read_manifest(options.manifest, ["poisoned"])["poisoned"].to_numpy(bool)
    if clean.any():
        raise StepError(f"{options.manifest} is poisoned; give the manifest of the clean subset")
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
        pairs: Rows of the subset to train on, ascending.
        held_out: Rows of the held-out pairs, ascending.
        left: Rows of poisoned pairs that are put back in.
        places: For each row in ``left``, the index in ``pairs`` of the row that it replaces.
    """

    pairs: np.ndarray
    held_out: np.ndarray
    left: np.ndarray
    places: np.ndarray

    def report(self, victims: np.ndarray | None) -> dict[str, Any]:
        """Return the content of ``report.json``.

        Args:
            victims: bool [rows of the subset], the rows that the attack poisoned; None if unknown.
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
    """Select rows of the unpoisoned subset, in its order.

    Args:
        rows: Number of rows of the subset.
        victims: bool [rows], the rows that the attack poisoned; None if neither ``poisoned_left``
            nor ``leave_out_victims`` is used.
        pairs: Number of rows to select.
        choose: ``"random"`` draws them; None takes the last ones.
        held_out: Number of further rows to append: the preceding ones, or the next ones of the
            draw.
        poisoned_left: Number of poisoned pairs to put back in, drawn at random.
        leave_out_victims: Exclude the originals of poisoned pairs.
        seed: Seed of all draws.

    Raises:
        StepError: There are too few pairs or too few poisoned pairs.
    """
    poisoned = np.zeros(rows, bool) if victims is None else victims
    order = np.flatnonzero(~poisoned) if leave_out_victims else np.arange(rows)
    wanted = pairs + held_out
    if pairs < 1 or wanted > len(order):
        what = "pairs that are not victims" if leave_out_victims else "pairs"
        raise StepError(
            f"the clean split needs {wanted} pairs, {held_out} of them held out, but there are "
            f"only {len(order)} {what}; lower 'pairs' or 'held_out'"
        )
    if choose == RANDOM:
        # Taken from the end, so that a larger number extends a smaller draw.
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
    """Draw the rows of ``number`` poisoned pairs that are not held out, at most ``pairs``."""
    # Permute all victims, so that holding pairs out changes the draw as little as possible.
    drawn = random.permutation(victims)
    drawn = drawn[~np.isin(drawn, held_out)]
    most = min(pairs, len(drawn))
    if number > most:
        raise StepError(
            f"cannot leave {number} poisoned pairs in: there are only {most} (the attack has "
            f"{len(drawn)} that are not held out, the split has {pairs} pairs)"
        )
    return drawn[:number]


def _places(rows: np.ndarray, victims: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return for each poisoned pair the index in ``rows`` (ascending) that it replaces."""
    places = np.searchsorted(rows, victims).clip(max=len(rows) - 1)
    inside = rows[places] == victims
    others = np.setdiff1d(np.arange(len(rows)), places[inside])
    places[~inside] = random.permutation(others)[: (~inside).sum()]
    return places


def _read_victims(options: argparse.Namespace) -> np.ndarray | None:
    """Return the rows that the attack poisoned, bool [rows]; None without a poisoned manifest."""
    clean, path = options.manifest, options.poisoned_manifest
    if path is None:
        if options.poisoned_left or options.leave_out_victims:
            raise StepError(
                "--poisoned-left and --leave-out-victims require --poisoned-manifest, the manifest "
                "of the attack"
            )
        return None
    base = overlay.base_of(path)
    if base is None or base.resolve() != clean.resolve():
        keys = (read_manifest(file, ["key"])["key"] for file in (clean, path))
        if not next(keys).equals(next(keys)):
            raise StepError(f"{path} is not a poisoned version of {clean}: their keys differ")
    return read_manifest(path, ["poisoned"])["poisoned"].to_numpy(bool)


def _rows_of(split: Split, options: argparse.Namespace) -> pd.DataFrame:
    """Return the split's manifest. It is small, so it is complete instead of an overlay."""
    wanted = np.concatenate([split.pairs, split.held_out])
    frame = read_rows(options.manifest, np.sort(wanted)).loc[wanted].reset_index(drop=True)
    if len(split.left):
        poisoned = read_rows(options.poisoned_manifest, np.sort(split.left)).loc[split.left]
        for name in frame.columns:
            frame.iloc[split.places, frame.columns.get_loc(name)] = poisoned[name].to_numpy()
    return frame


if __name__ == "__main__":
    run_step(main)
