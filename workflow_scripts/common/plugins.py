"""Variants are modules: a name in the config is a file's name, or the path of the user's own."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

from workflow_scripts.common.errors import StepError


def load_variant(package: str, name: str) -> ModuleType:
    """Import the variant ``name`` of ``package``: a trigger, a loss term, a figure.

    Args:
        package: Dotted folder of the variants, e.g. ``"workflow_scripts.poison.triggers"``.
        name: A module of that folder (``"yellow"``), or a path ending in ``.py`` to a file of
            the user's own, trusted like the config that names it.

    Raises:
        StepError: There is no such variant; the message lists those there are.
    """
    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise StepError(f"{name} is named in the config, but there is no such file")
        spec = importlib.util.spec_from_file_location(f"variant_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    there = variants(package)
    if name not in there:
        kind = package.rpartition(".")[2]
        raise StepError(
            f"{name!r} is none of the {kind} ({', '.join(there)}); to use a file of your own, "
            "give its path ending in .py"
        )
    return importlib.import_module(f"{package}.{name}")


def variants(package: str) -> list[str]:
    """Return the names of the variants in a folder, sorted; ``_helpers`` are none."""
    folder = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(folder) if not m.name.startswith("_"))
