"""Reads config files and combines them: config.yaml, those of profiles and --configfile, --config.

A later file overrides single keys of earlier ones: mappings are merged. Some mappings only make
sense as a whole: there, a later one replaces an earlier one (see ``_is_whole``).
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

# Values of runs that are given whole: what is left of an earlier one would have another meaning.
_WHOLE = {"objective", "trigger", "victims", "captions", "start_change", "model", "vary"}

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_config(workflow: Any, config: Spec) -> None:
    """Replace ``config`` by what config.yaml, Snakemake's config files and ``--config`` say.

    Snakemake itself has merged all their mappings already.

    Args:
        workflow: Snakemake's.
        config: Snakemake's, changed in place.

    Raises:
        StepError: As :func:`combined_config`.
    """
    if workflow.modifier.skip_configfile:  # a module of another workflow, which gives the config
        return
    settings = workflow.config_settings
    own = [] if settings.replace_workflow_config else [Path(workflow.basedir, "config.yaml")]
    combined = combined_config([*own, *settings.configfiles], settings.config)
    config.clear()
    config.update(combined)


def wanted_experiments(workflow: Any, config: Spec) -> set[str]:
    """Return the experiments that Snakemake is to make: those of its targets, or those of `all`."""
    targets = workflow.dag_settings.targets if workflow.dag_settings else ()
    parts = {part for target in targets for part in Path(target).parts}
    named = config["experiments"].keys() & parts
    if "all_experiments" in parts:
        return set(config["experiments"])
    return set(named) if named else set(config["all"])


def combined_config(files: Iterable[Path], values: Mapping[str, Any]) -> Spec:
    """Return the config that files and the command line's ``--config`` say together.

    Args:
        files: In order; a later one overrides an earlier one.
        values: Of ``--config``; they override all files.

    Raises:
        StepError: A file cannot be read; the message names it and the line.
    """
    config: Spec = {}
    for file in files:
        config = merged(config, read_config(file))
    return merged(config, dict(values))


def merged(base: Any, over: Any, path: _Path = ()) -> Any:
    """Return ``base`` with what ``over`` says in its place; neither is changed."""
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
        case ("experiments", _, "vary" | "vary_start") | ("labellers", _):
            return True
        case ("artefacts", _, _):
            return True
        case ("measures", _):
            return over.get("measure", base.get("measure")) != base.get("measure")
        case ("experiments", _, "figures", _):
            return over.get("kind", base.get("kind")) != base.get("kind")
    return False


def read_config(path: Path) -> Spec:
    """Return the content of one config file, YAML or JSON; {} if it has nothing but comments.

    Raises:
        StepError: The file cannot be read, is not valid, or has a key twice in one mapping.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise StepError(f"the config file {path} does not exist; correct its path") from error
    except UnicodeDecodeError as error:
        raise StepError(f"the config file {path} is not text in UTF-8; save it as UTF-8") from error
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
        raise StepError(f"{path} is not a config: it has to consist of keys with values")
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
                raise StepError(f"{path} has the key {name!r} twice in one mapping; remove one")
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
        # A template, which Snakemake knows how to expand.
        from snakemake.common.configfile import load_configfile  # noqa: PLC0415

        return load_configfile(path)
    return content


def _refuse_duplicates(node: yaml.Node, path: Path, seen: set[int]) -> None:
    """Refuse a key that is there twice in one mapping, of which YAML would keep the last."""
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
                f"{path}, line {key.start_mark.line + 1}: the key {key.value!r} was already given "
                f"on line {lines[name]}; remove one"
            )
        if name is not None:
            lines[name] = key.start_mark.line + 1
