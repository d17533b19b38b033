"""Snakemake that asks Slurm for the states of its jobs every second.

The executor plugin waits ten seconds longer after each unchanged answer, and has no option for it.

Snakemake forgets to cancel jobs whose states it is querying when it is interrupted. With a query
every second, this would happen often; here, the query ends first.
"""

import sys

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)


def _cancel(executor: Executor) -> None:
    executor.shutdown()
    executor.cancel_jobs(executor.active_jobs)


Executor.cancel = _cancel

if __name__ == "__main__":
    sys.exit(main())
