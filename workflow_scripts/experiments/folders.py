"""Folders of the workflow: any name is allowed that Snakemake does not read as a pattern."""

import os.path

from workflow_scripts.common.errors import StepError


def check_folders(pathvars: dict[str, str], checkout: str) -> None:
    """Check the folders that Snakemake writes to, and the folder of the workflow itself.

    Args:
        pathvars: Of the config: a name of Snakemake's path variables to its folder.
        checkout: Folder of the Snakefile.

    Raises:
        StepError: A folder that Snakemake cannot handle, or that a step would take for an option.
    """
    _check_characters("the folder of the workflow", checkout, "{}")
    for name, folder in pathvars.items():
        place = f"config: 'pathvars.{name}'"
        # The others may refer to <results>.
        _check_characters(place, folder, "{}<>" if name == "results" else "{}")
        if not folder or folder[0] in "-~":
            raise StepError(f"{place} is {folder!r}; give the path of a folder, without ~ or -")
        if folder != os.path.normpath(folder):
            raise StepError(f"{place} is {folder!r}; write it as {os.path.normpath(folder)!r}")


def _check_characters(place: str, folder: str, reserved: str) -> None:
    wrong = [c for c in folder if c in reserved or not c.isprintable()]
    if wrong:
        raise StepError(
            f"{place} is {folder!r}, and Snakemake cannot handle {wrong[0]!r} in it; rename it"
        )
