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
    begin, begin_there = _first_bytes(pairs), _first_bytes(evaluation)
    # All other digests differ in these bytes from each other, and from the evaluation set's.
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
