"""Take the first N usable pairs of a source: a dataset."""

import argparse
from pathlib import Path

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.data.manifest import read_digests, read_manifest, write_manifest


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the dataset's manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="of the source")
    parser.add_argument("--pairs", required=True, help='how many, or "all"')
    parser.add_argument("--output", type=Path, required=True, help="manifest of the dataset")
    options = parser.parse_args(arguments)
    pairs = read_manifest(options.manifest).assign(sha256=read_digests(options.manifest))
    wanted = _number(options.pairs, len(pairs))
    if wanted > len(pairs):
        raise StepError(
            f"{options.manifest} has {len(pairs)} usable pairs, {wanted} are asked for; ask for "
            'fewer, or for "all"'
        )
    write_manifest(options.output, pairs.iloc[:wanted])


def _number(pairs: str, available: int) -> int:
    if pairs == "all":
        return available
    if not pairs.isdecimal() or int(pairs) < 1:
        raise StepError(f'--pairs {pairs} is neither a number of pairs nor "all"')
    return int(pairs)


if __name__ == "__main__":
    run_step(main)
