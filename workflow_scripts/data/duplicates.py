"""Count the images of a dataset that are evaluation images too, and those that it has twice.

Needs   MANIFEST            of the dataset
        EVALUATION          manifest of the evaluation set
Makes   OUTPUT              JSON, see :func:`count_duplicates`

Two images are the same if their files are, byte for byte (SHA-256), as they were downloaded or
given. A copy that was resized, stored again or of which only the metadata changed is another file
and is not seen: the numbers are a lower bound.
"""

import argparse
from pathlib import Path

import pandas as pd

from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import write_json
from workflow_scripts.data.manifest import read_digests


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, help="of the dataset")
    parser.add_argument(
        "--evaluation", type=Path, required=True, help="manifest of the evaluation set"
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args(arguments)
    counts = count_duplicates(read_digests(options.manifest), read_digests(options.evaluation))
    write_json(options.output, counts)
    print(", ".join(f"{name}: {number}" for name, number in counts.items()))


def count_duplicates(pairs: pd.Series, evaluation: pd.Series) -> dict[str, int]:
    """Count contents that stand in both, and contents that stand among the pairs more than once.

    Args:
        pairs: Digest of each pre-training image's file.
        evaluation: Likewise of each evaluation image.

    Returns:
        ``pairs`` and ``evaluation_images``: how many there are. ``pairs_in_evaluation``: pairs
        whose image is an evaluation image too; ``contents_in_evaluation``: different images among
        these; ``evaluation_images_in_pairs``: evaluation images that a pair has too.
        ``repeated_pairs``: pairs whose image is that of an earlier pair.
    """
    shared = pairs[pairs.isin(evaluation.array)]
    return {
        "pairs": len(pairs),
        "evaluation_images": len(evaluation),
        "pairs_in_evaluation": len(shared),
        "contents_in_evaluation": int(shared.nunique()),
        "evaluation_images_in_pairs": int(evaluation.isin(shared.array).sum()),
        "repeated_pairs": len(pairs) - int(pairs.nunique()),
    }


if __name__ == "__main__":
    run_step(main)
