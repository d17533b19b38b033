"""Reads and combines config files: config.yaml, those of profiles and --configfile, and --config.

A later file overrides single keys of earlier files: mappings are merged. Mappings that only make
sense as a whole are replaced instead (see ``_is_whole``).
"""

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from workflow_scripts.common.errors import StepError

Spec = dict[str, Any]
_Path = tuple[str, ...]

# Settings that are replaced as a whole: remains of an earlier value would change their meaning.
_WHOLE = {"objective", "trigger", "victims", "captions", "start_change", "model", "vary"}

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_config(workflow: Any, config: Spec) -> None:
    """Replace ``config`` by the combination of config.yaml, config files and ``--config``.

    Snakemake has already merged them, but merges every mapping.

    Args:
        workflow: Snakemake's workflow object.
        config: Snakemake's config, changed in place.

    Raises:
        StepError: As :func:`combined_config`.
    """
    if workflow.modifier.skip_configfile:  # used as a module; the other workflow sets the config
        return
    settings = workflow.config_settings
    defaults = [] if settings.replace_workflow_config else [Path(workflow.basedir, "config.yaml")]
    combined = combined_config([*defaults, *settings.configfiles], settings.config)
    config.clear()
    config.update(combined)


def combined_config(files: Iterable[Path], values: Mapping[str, Any]) -> Spec:
    """Return the combination of config files and the command line's ``--config``.

    Args:
        files: Config files; a later file overrides earlier ones.
        values: Values of ``--config``, which override all files.

    Raises:
        StepError: A file cannot be read; the message names the file and the line.
    """
    config: Spec = {}
    for file in files:
        config = merged(config, read_config(file))
    return merged(config, dict(values))


def merged(base: Any, over: Any, path: _Path = ()) -> Any:
    """Return a copy of ``base`` overridden by ``over``; neither is changed."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)) or _is_whole(path, base, over):
        return copy.deepcopy(over)
    result = {key: copy.deepcopy(value) for key, value in base.items() if key not in over}
    for key, value in over.items():
        inherited = base.get(key)
        result[key] = merged(inherited, value, (*path, str(key)))
    return {key: result[key] for key in dict.fromkeys([*base, *over])}


def _is_whole(path: _Path, base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    """Return whether a mapping of the config replaces an earlier one instead of being merged."""
    match path:
        case ("pretraining" | "cleaning", *_, last) | ("starts" | "defences", _, *_, last):
            return last.rpartition(".")[2] in _WHOLE
        case ("experiments", _, "vary" | "vary_start"):
            return True
        case ("artefacts", _, _):
            return True
        case ("measures", _):
            return over.get("measure", base.get("measure")) != base.get("measure")
        case ("experiments", _, "figures", _):
            return over.get("kind", base.get("kind")) != base.get("kind")
    return False


def read_config(path: Path) -> Spec:
    """Return the content of a YAML or JSON config file; {} if it is empty or has only comments.

    Raises:
        StepError: The file cannot be read, is not valid, or has a duplicate key.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise StepError(f"the config file {path} does not exist; correct its path") from error
    except UnicodeDecodeError as error:
        raise StepError(f"the config file {path} is not UTF-8 text; save it as UTF-8") from error
    try:
        content = _parse(text, path)
    except yaml.MarkedYAMLError as error:
        raise StepError(_where_and_what(path, error)) from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise StepError(f"{path} is not valid YAML: {problem}") from error
    except RecursionError as error:
        raise StepError(f"{path} is nested too deeply to be read") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise StepError(f"{path} is not a config file: its top level must be a mapping")
    return content


def _where_and_what(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark, begin = error.problem_mark, error.context_mark
    where = f", line {mark.line + 1}," if mark else ""
    context = f"{error.context} " if error.context else ""
    if begin and mark and begin.line != mark.line:
        context += f"that begins on line {begin.line + 1}, "
    return f"{path}{where} is not valid YAML: {context}{error.problem}"


def _parse(text: str, path: Path) -> Any:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> Spec:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise StepError(f"{path}: the key {name!r} is duplicated; remove one of them")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=without_duplicates)
    except ValueError:
        loader = _LOADER(text)
        node = loader.get_single_node()
        content = None
        if node is not None:
            _refuse_duplicates(node, path, set())
            content = loader.construct_document(node)
    if isinstance(content, dict) and content.get("__use_yte__"):
        # A YTE template, which Snakemake expands.
        from snakemake.common.configfile import load_configfile  # noqa: PLC0415

        return load_configfile(path)
    return content


def _refuse_duplicates(node: yaml.Node, path: Path, seen: set[int]) -> None:
    """Refuse duplicate keys of a mapping, of which YAML would silently keep the last."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, path, seen)
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        _refuse_duplicates(value, path, seen)
        name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
        if name in lines:
            raise StepError(
                f"{path}, line {key.start_mark.line + 1}: the key {key.value!r} duplicates line "
                f"{lines[name]}; remove one of them"
            )
        if name is not None:
            lines[name] = key.start_mark.line + 1
