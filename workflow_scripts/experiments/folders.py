"""Checks the folders of the workflow for characters that Snakemake interprets as patterns."""

import os.path

from workflow_scripts.common.errors import StepError


def check_folders(pathvars: dict[str, str], checkout: str) -> None:
    """Check the folders that Snakemake writes to, and the folder of the workflow itself.

    Args:
        pathvars: Section ``pathvars`` of the config: names of path variables to folders.
        checkout: Folder of the Snakefile.

    Raises:
        StepError: Snakemake cannot handle a folder, or a step would parse it as an option.
    """
    _check_characters("the folder of the workflow", checkout, "{}")
    for name, folder in pathvars.items():
        place = f"config: 'pathvars.{name}'"
        # The other folders may refer to <results>.
        _check_characters(place, folder, "{}<>" if name == "results" else "{}")
        if not folder or folder[0] in "-~@":
            raise StepError(f"{place} must not be empty or begin with ~, - or @, got {folder!r}")
        if folder != os.path.normpath(folder):
            raise StepError(
                f"{place} must be a normalised path; write {os.path.normpath(folder)!r} instead of "
                f"{folder!r}"
            )


def _check_characters(place: str, folder: str, reserved: str) -> None:
    wrong = [c for c in folder if c in reserved or not c.isprintable()]
    if wrong:
        raise StepError(
            f"{place} is {folder!r}, but Snakemake cannot handle {wrong[0]!r} in paths; rename the "
            "folder"
        )
