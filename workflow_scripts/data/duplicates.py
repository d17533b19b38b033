"""Count images of a dataset that occur in the evaluation set or more than once in the dataset.

Inputs  MANIFEST            manifest of the dataset
        EVALUATION          manifest of the evaluation set
Outputs OUTPUT              JSON: pairs, evaluation_images, pairs_in_evaluation,
                            contents_in_evaluation, evaluation_images_in_pairs, repeated_pairs

Images are compared by the SHA-256 of their original files. Copies that were resized, re-encoded or
given other metadata are not detected, so the counts are lower bounds.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import write_json
from workflow_scripts.data.manifest import read_digests
from workflow_scripts.data.repeats import repeated


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the dataset")
    parser.add_argument(
        "--evaluation", type=Path, required=True, help="manifest of the evaluation set"
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args(arguments)
    counts = count_duplicates(read_digests(options.manifest), read_digests(options.evaluation))
    write_json(options.output, counts)
    print(", ".join(f"{name}: {number}" for name, number in counts.items()))


def count_duplicates(pairs: pd.Series, evaluation: pd.Series) -> dict[str, int]:
    """Count images that occur in both sets, and images that occur in several pairs.

    Args:
        pairs: Digest of the image file of each pair.
        evaluation: Digest of each evaluation image.

    Returns:
        ``pairs`` and ``evaluation_images``: the sizes of the two sets. ``pairs_in_evaluation``:
        pairs whose image is also an evaluation image. ``contents_in_evaluation``: distinct images
        among these. ``evaluation_images_in_pairs``: evaluation images that occur in a pair.
        ``repeated_pairs``: pairs whose image already occurs in an earlier pair.
    """
    begin, begin_there = _first_bytes(pairs), _first_bytes(evaluation)
    # All other digests differ in their first bytes from each other and from the evaluation set's.
    candidates = pairs[repeated(begin) | pd.Series(begin).isin(begin_there).to_numpy()]
    shared = candidates[candidates.isin(evaluation.array)]
    return {
        "pairs": len(pairs),
        "evaluation_images": len(evaluation),
        "pairs_in_evaluation": len(shared),
        "contents_in_evaluation": int(shared.nunique()),
        "evaluation_images_in_pairs": int(evaluation.isin(shared.array).sum()),
        "repeated_pairs": len(candidates) - int(candidates.nunique()),
    }


def _first_bytes(digests: pd.Series) -> np.ndarray:
    """Return the first eight bytes of each digest, as uint64."""
    column = pa.chunked_array(pa.array(digests.array))
    chunks = [
        np.frombuffer(chunk.buffers()[1], "<u8").reshape(-1, 4)[chunk.offset :, 0][: len(chunk)]
        for chunk in column.chunks
    ]
    return np.concatenate([np.empty(0, "<u8"), *chunks])


if __name__ == "__main__":
    run_step(main)
