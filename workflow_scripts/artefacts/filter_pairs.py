"""Drop the most suspicious pairs of an attack before pre-training.

Inputs   MANIFEST                manifest of the attack
         SCORES                  values of an artefact with a score for each row; high values are
                                 suspicious
Outputs  OUTPUT                  manifest of the kept rows, in their order; an overlay (see
                                 data/overlay.py) if the attack's manifest is one
         report.json beside it   number of dropped pairs, and how many of them were poisoned

Rows with equal scores are dropped in row order. Only the report uses the ground truth.
"""

import argparse
from pathlib import Path

import numpy as np

from workflow_scripts.artefacts.detecting import highest
from workflow_scripts.artefacts.values import values_in
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import write_json
from workflow_scripts.data.manifest import read_manifest, write_kept


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the filtered manifest and the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the attack")
    parser.add_argument("--scores", type=Path, required=True, help="values of an artefact")
    parser.add_argument(
        "--drop-highest", type=float, required=True, help="share of the pairs to drop"
    )
    parser.add_argument("--output", type=Path, required=True, help="manifest.parquet")
    options = parser.parse_args(arguments)
    poisoned = read_manifest(options.manifest, ["poisoned"])["poisoned"].to_numpy(bool)
    (scores,) = values_in(options.scores, "scores")
    kept, report = filter_pairs(poisoned, scores, options.drop_highest)
    write_json(options.output.with_name("report.json"), report)
    write_kept(options.output, options.manifest, kept)
    print(", ".join(f"{name}: {number}" for name, number in report.items()))


def filter_pairs(
    poisoned: np.ndarray, scores: np.ndarray, drop_highest: float
) -> tuple[np.ndarray, dict[str, int | float | None]]:
    """Drop the pairs with the highest scores.

    Args:
        poisoned: bool [rows], which pairs are poisoned.
        scores: float [rows].
        drop_highest: Share of the pairs to drop, rounded to whole rows.

    Returns:
        The kept rows, bool [rows], and the report: the numbers ``pairs``, ``dropped``, ``poisoned``
        and ``poisoned_dropped``; ``recall``, the share of poisoned pairs that were dropped (None if
        there are none); and ``clean_dropped``, the share of clean pairs that were dropped.

    Raises:
        StepError: The number of scores differs from the number of pairs, or no pair is left.
    """
    pairs = len(poisoned)
    if scores.shape != (pairs,):
        raise StepError(
            f"the scores have shape {list(scores.shape)}, but there are {pairs} pairs; refer to an "
            "artefact of the same pairs"
        )
    dropped = np.zeros(pairs, bool)
    dropped[highest(scores, drop_highest)] = True
    if dropped.all():
        raise StepError(
            f"dropping a share of {drop_highest:g} of {pairs} pairs leaves none; lower drop_highest"
        )
    found, clean = int((poisoned & dropped).sum()), int((~poisoned).sum())
    return ~dropped, {
        "pairs": pairs,
        "dropped": int(dropped.sum()),
        "poisoned": int(poisoned.sum()),
        "poisoned_dropped": found,
        "recall": found / int(poisoned.sum()) if poisoned.any() else None,
        "clean_dropped": (int(dropped.sum()) - found) / clean if clean else None,
    }


if __name__ == "__main__":
    run_step(main)
