"""Runs Snakemake in forks of a process that has imported it.

Importing Snakemake takes longer than most dry runs. Each line of stdin is a JSON list: the command
line, the working directory, the environment and the file for the output. The exit status is
written to stdout.
"""

import json
import os
import sys

from snakemake.cli import main


def _run(command: list[str], folder: str, environment: dict[str, str], output: str) -> None:
    nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY)
    for opened, standard in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(opened, standard)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = command
    sys.exit(main())


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
