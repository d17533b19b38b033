"""The config files of profiles, which Snakemake drops where the command line names one too."""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

from snakemake.cli import get_argument_parser, parse_args


def keep_profile_configfiles(workflow: Any) -> None:
    """Put the config file of the profile in front of those of ``--configfile``.

    An option of the command line replaces the profile's, so that Snakemake itself would run
    ``--profile demo --configfile mine.yaml`` without the demo's config, and so plan the paper.
    Jobs on a cluster get the config files of the main process, and no profile.

    Args:
        workflow: Snakemake's, before its first ``configfile:``.
    """
    if not workflow.is_main_process:
        return
    settings = workflow.config_settings
    given = {file.resolve() for file in settings.configfiles}
    files = [f for f in profile_configfiles(sys.argv[1:]) if f.resolve() not in given]
    if files:
        settings.configfiles = [*files, *settings.configfiles]
        # Snakemake computes here what the files and --config say together.
        settings.__post_init__()


def profile_configfiles(arguments: list[str]) -> list[Path]:
    """Return what a command line's profiles say for ``--configfile``.

    Args:
        arguments: Of ``snakemake``; without a profile there, ``SNAKEMAKE_PROFILE`` names it.
    """
    given = get_argument_parser().parse_known_args(arguments)[0]
    profiles = [word for name in given.profile or [] for word in ("--profile", name)]
    for option, value in (
        ("--workflow-profile", given.workflow_profile),
        ("--snakefile", given.snakefile),
    ):
        profiles += [option, str(value)] if value else []
    # It says once more which profile it uses.
    with contextlib.redirect_stderr(io.StringIO()):
        return list(parse_args(profiles)[1].configfile)
