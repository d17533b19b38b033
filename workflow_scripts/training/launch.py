"""torchrun, with at most one sentence in place of its traceback.

    python -m workflow_scripts.training.launch [torchrun's options] -m MODULE [options]

A process that fails has told why, and on a signal the leading one tells that it was stopped.
"""

import logging
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> None:
    """Run torchrun's own main."""
    # It warns of each signal and process that ends, and of threads that the trainer sets anyway.
    logging.disable(logging.ERROR)
    try:
        run.main(sys.argv[1:])
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            hint = "; is there too little memory?" if name == "SIGKILL" else ""
            sys.exit(f"error: training process {rank} was ended by {name}{hint}")
        sys.exit(failure.exitcode)


if __name__ == "__main__":
    main()
