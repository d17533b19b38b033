"""Tokenize and augment the captions of a manifest.

Inputs  MANIFEST, WordNet
Outputs OUTPUT/ the files of tokenize.py and augment.py, which are run in this process: importing
                open_clip's tokenizer takes longer than processing a few captions
"""

import argparse

from workflow_scripts.captions import augment, tokenize
from workflow_scripts.common.errors import run_step


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and run both steps."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s --tokenize @FILE --augment @FILE [options of both steps]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tokenize", required=True, help="@ and a file with its own options")
    parser.add_argument("--augment", required=True, help="@ and a file with its own options")
    options, shared = parser.parse_known_args(arguments)
    tokenize.main([options.tokenize, *shared])
    augment.main([options.augment, *shared])


if __name__ == "__main__":
    run_step(main)
