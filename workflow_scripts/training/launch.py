"""torchrun, with at most one sentence in place of its traceback.

    python -m workflow_scripts.training.launch [torchrun options] -m MODULE [options]

The failed process has already printed its error; after a signal, the leading process reports that
it was stopped.
"""

import logging
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from workflow_scripts.common.errors import run_step


def main() -> None:
    """Run torchrun's main function."""
    # torchrun warns about each signal, each exit, and the thread count, which the trainer sets.
    logging.disable(logging.ERROR)
    try:
        run.main(sys.argv[1:])
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            hint = "; it may have run out of memory" if name == "SIGKILL" else ""
            sys.exit(f"error: training process {rank} was killed by {name}{hint}")
        sys.exit(failure.exitcode)


if __name__ == "__main__":
    run_step(main)
