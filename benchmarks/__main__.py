"""Run the benchmarks that do not need a GPU, and print one table.

    python -m benchmarks                    all benchmarks; under 20 minutes on two idle cores
    python -m benchmarks captions loader    selected benchmarks

Each benchmark is a module of this folder, whose docstring describes its baseline. See README.md.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys

from benchmarks.measuring import HEADER, header

# Sizes that take minutes. The defaults of the modules are the same or larger.
COMMANDS: dict[str, list[str]] = {
    "captions": [],
    "data_stages": ["--rows", "2000000"],
    "download": ["--rows", "2000", "--turns", "1"],
    "loader": [],
    "storage": ["--rows", "1000000", "--plain-rows", "40000"],
    "training": ["--model", "RN50", "--batch-size", "16", "--steps", "2"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMANDS))
    names = parser.parse_args().names or list(COMMANDS)
    if unknown := set(names) - set(COMMANDS):
        parser.error(
            f"unknown benchmarks: {', '.join(sorted(unknown))} (available: {', '.join(COMMANDS)})"
        )
    print(f"{datetime.date.today()}, {machine()}\n")
    header()
    failed = [name for name in names if not run(name)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(name: str) -> bool:
    """Run a benchmark and print its rows; return whether it succeeded."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *COMMANDS[name]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # stdout is a pipe
        for line in process.stdout:
            if line.startswith("| ") and line.rstrip() != HEADER:
                print(line, end="", flush=True)
    return process.returncode == 0


def machine() -> str:
    """Return the processor's name and the number of usable cores."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            models = [line.partition(":")[2].strip() for line in file if "model name" in line]
        name = models[0] if models else name
    except OSError:
        pass
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main()
