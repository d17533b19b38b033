"""Snakemake's command line: the config files of profiles, and the targets."""

import argparse
import contextlib
import difflib
import functools
import io
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from snakemake.cli import get_argument_parser, parse_args

from workflow_scripts.common.errors import StepError

Spec = dict[str, Any]


def keep_profile_configfiles(workflow: Any) -> None:
    """Put the config files of the profile in front of those of ``--configfile``.

    A command-line option replaces the profile's value, so Snakemake would run ``--profile demo
    --configfile mine.yaml`` without the demo's config, that is, at the scale of the paper. Jobs on
    a cluster get the config files of the main process and no profile.

    Args:
        workflow: Snakemake's workflow object, before the first ``configfile:``.
    """
    if not workflow.is_main_process:
        return
    settings = workflow.config_settings
    named = {file.resolve() for file in settings.configfiles}
    files = [f for f in profile_configfiles(sys.argv[1:]) if f.resolve() not in named]
    if files:
        settings.configfiles = [*files, *settings.configfiles]
        # This is where Snakemake merges the files and --config.
        settings.__post_init__()


@functools.cache
def _parsed(*arguments: str) -> argparse.Namespace:
    """Return the parsed arguments of ``snakemake``, which takes it a third of a second."""
    return get_argument_parser().parse_known_args(arguments)[0]


def profile_configfiles(arguments: list[str]) -> list[Path]:
    """Return the values of ``--configfile`` in the profiles of a command line.

    Args:
        arguments: Arguments of ``snakemake``; the profile may also be named by the environment
            variable ``SNAKEMAKE_PROFILE``.
    """
    parsed = _parsed(*arguments)
    profiles = [word for name in parsed.profile or [] for word in ("--profile", name)]
    for option, value in (
        ("--workflow-profile", parsed.workflow_profile),
        ("--snakefile", parsed.snakefile),
    ):
        profiles += [option, str(value)] if value else []
    # Parsing prints once more which profile is used.
    with contextlib.redirect_stderr(io.StringIO()):
        return list(parse_args(profiles)[1].configfile)


def command_line_targets() -> Collection[str]:
    """Return the targets on Snakemake's command line, which it stores only after parsing rules."""
    return _parsed(*sys.argv[1:]).targets


def wanted_experiments(targets: Iterable[str], config: Spec) -> set[str]:
    """Return the experiments that Snakemake's targets need; those of `all` if there are none.

    A target that names no experiment may need any of `all`. One that does is an experiment,
    ``plan_`` or ``preflight_`` with an experiment, ``zoo``, or a file in the folder of an
    experiment or of a page of several (``pages/A+B``).
    """
    wanted: set[str] = set()
    for target in list(targets) or ["all"]:
        words = {word for part in Path(target).parts for word in part.split("+")}
        if "all_experiments" in words:
            return set(config["experiments"])
        of_zoo = config["zoo"]["experiments"] if words & {"zoo"} else []
        planned = {w.removeprefix(p) for w in words for p in ("plan_", "preflight_")}
        named = config["experiments"].keys() & (words | planned | set(of_zoo))
        wanted |= named or set(config["all"])
    return wanted


def check_targets(targets: Iterable[str], rules: Collection[str]) -> None:
    """Check the targets, for which Snakemake would only report that no rule produces them.

    Raises:
        StepError: A name is neither a rule nor a file; the message suggests the closest rule.
    """
    for target in targets:
        if target.isidentifier() and target not in rules and not Path(target).exists():
            close = difflib.get_close_matches(target, rules, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "snakemake --list shows all targets"
            raise StepError(
                f"unknown target {target!r}; {hint} (an experiment of your own also needs "
                "--configfile with its file)"
            )
