"""Snakemake that asks Slurm for the states of its jobs every two seconds.

The executor plugin waits ten seconds longer after each unchanged answer, and has no option for it.

When it is interrupted, Snakemake forgets to cancel the jobs whose states it is querying. With a
query every two seconds, this would happen often; here, all of its jobs are cancelled.
"""

import sys
from typing import Any

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda self: 2, lambda self, seconds: None)
_jobs: list[Any] = []
_report_as_usual = Executor.report_job_submission


def _report(executor: Executor, job: Any, **options: Any) -> None:
    _jobs.append(job)
    _report_as_usual(executor, job, **options)


def _cancel(executor: Executor) -> None:
    executor.cancel_jobs(_jobs)
    executor.shutdown()


Executor.report_job_submission, Executor.cancel = _report, _cancel

if __name__ == "__main__":
    sys.exit(main())
