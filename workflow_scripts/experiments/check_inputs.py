"""Preflight checks of the user's inputs: URL lists, evaluation images, pretrained weights."""

import os
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.compute as pc

from workflow_scripts.common.attacks import VARIANTS, parts_of
from workflow_scripts.common.errors import StepError, nearest, one_line
from workflow_scripts.common.files import digest, visible_files
from workflow_scripts.data.classes import folder_classes, read_templates
from workflow_scripts.data.lists import count_rows, first_rows, format_of
from workflow_scripts.data.tars import members, open_tar
from workflow_scripts.experiments.artefacts import needed
from workflow_scripts.experiments.attacks import ALL
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.own_inputs import files_of
from workflow_scripts.experiments.references import references
from workflow_scripts.experiments.sources import is_made

Spec = dict[str, Any]


def input_checks(config: Spec, plan: Plan, runs: list[str], offline: bool) -> Iterator[Any]:
    """Yield the checks of the inputs of runs that the workflow does not make itself.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
        runs: Ids of the runs.
        offline: Whether the machines that train may have no network access.
    """
    specs = [plan.runs[run] for run in runs]
    data = plan.data
    shards = {data.sources[data.datasets[s["dataset"]]["source"]]["shards"] for s in specs}
    for name in sorted({data.lists[data.shards[shard]["list"]]["name"] for shard in shards}):
        source = config["sources"][name]
        if urlsplit(source["list"]).scheme not in ("http", "https"):
            yield from _provided(config, f"sources.{name}.list", source["list"])
            if Path(source["list"]).is_file():
                yield partial(check_list, f"sources.{name}", source, _pairs_of(plan, specs, name))
    parts = [part for spec in specs for part in parts_of(spec["attack"])]
    targets = {part["target"] for part in parts}
    yield from evaluation_checks(config, config["evaluation"], targets)
    files = {
        (f"attack.{kind}.{option}", path)
        for part in parts
        for kind in VARIANTS
        for option, path in files_of(kind, part.get(kind) or "").items()
    }
    for place, path in sorted(files):
        yield from _provided(config, place, path)
    triggers = {digest([part["trigger"], part["image_size"]]): part for part in parts}
    for part in triggers.values():
        paths = files_of("trigger", part["trigger"]).values()
        # Missing files are reported above; artefacts are made by the workflow.
        if all(Path(path).exists() for path in paths) and not any(references(part["trigger"])):
            yield partial(check_trigger, part)
    made = [plan.artefacts.specs[name] for name in needed(plan.artefacts.specs, specs)]
    models = [s["model"] for s in [*specs, *made] if s.get("kind") != "cleaning"]
    pretrained = {(m["name"], m["pretrained"]) for m in models if m and m.get("pretrained")}
    # The values that huggingface_hub accepts.
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    for model, tag in sorted(pretrained):
        yield partial(check_weights, model, tag, offline)


def evaluation_checks(config: Spec, name: str, targets: set[str]) -> Iterator[Any]:
    """Yield the checks of one evaluation set, whose classes must include ``targets``."""
    evaluation, place = config["evaluations"][name], f"evaluations.{name}"
    for key, path in evaluation.items():
        if key != "names":
            yield from _provided(config, f"{place}.{key}", path)
    if "folder" in evaluation and Path(evaluation["folder"]).is_dir():
        yield partial(check_folder, place, evaluation, targets)
    if "imagenet_archive" in evaluation and Path(evaluation["imagenet_archive"]).is_file():
        yield partial(check_archive, place, evaluation["imagenet_archive"])
    if "templates" in evaluation and Path(evaluation["templates"]).is_file():
        yield partial(check_templates, place, evaluation["templates"])


def _provided(config: Spec, place: str, path: str) -> Iterator[Any]:
    if not is_made(config, path):
        yield partial(check_input, place, path)


def check_input(place: str, path: str) -> str:
    """Check that a file or folder named in the config exists and is readable."""
    problem = f"config: {place!r} is {path!r}, which"
    if not Path(path).exists():
        raise StepError(f"{problem} does not exist; put it there or correct the path")
    if not os.access(path, os.R_OK):
        raise StepError(f"{problem} is not readable; change its permissions")
    if Path(path).is_dir() and not any(Path(path).iterdir()):
        raise StepError(f"{problem} is an empty folder; put the images there")
    return f"{path} exists ({place})"


def _pairs_of(plan: Plan, specs: list[Spec], name: str) -> int:
    """Return the largest number of pairs that runs take from a source, 0 if they take all."""
    data = plan.data
    pairs = [0]
    for dataset in (data.datasets[spec["dataset"]] for spec in specs):
        shards = data.shards[data.sources[dataset["source"]]["shards"]]
        if data.lists[shards["list"]]["name"] == name and dataset["pairs"] != ALL:
            pairs.append(dataset["pairs"])
    return max(pairs)


def check_list(place: str, source: Spec, pairs: int) -> str:
    """Check that a URL list has the columns that the config declares, and enough rows.

    Args:
        place: The key of the source in the config.
        source: The source.
        pairs: Pairs that a dataset takes from it.
    """
    path, columns = source["list"], source["columns"]
    declared = source.get("format", "auto")
    format = format_of(path) if declared == "auto" else declared
    table, rows = first_rows(path, format, columns, source.get("header", False))
    web = pc.sum(pc.match_substring_regex(table["url"], "^(?i:https?)://[^/]")).as_py() or 0
    if web < rows / 2 or not rows:
        raise StepError(
            f"only {web} of the first {rows} rows of {path} have an http(s) URL in the column "
            f"'url'; correct {place}.columns ({', '.join(columns)}), format or header"
            f"{'; a CSV is separated by commas' if format == 'csv' else ''}"
        )
    listed = count_rows(path, format, source.get("header", False), pairs)
    if listed < pairs:
        raise StepError(
            f"{path} has {listed} rows, but a dataset takes {pairs} pairs from {place}; lower "
            "datasets.*.pairs, or use a longer list"
        )
    return f"{web} of the first {rows} rows of {path} have an http(s) URL"


def check_folder(place: str, evaluation: Spec, targets: set[str]) -> str:
    """Check that a folder has sub-folders with images, and that all targets are classes of it."""
    folder, names = Path(evaluation["folder"]), evaluation.get("classes")
    folders, classes = folder_classes(folder, names and Path(names), "names" in evaluation)
    empty = [sub.name for sub in folders if not visible_files(sub)]
    if len(empty) == len(folders):
        raise StepError(
            f"config: '{place}.folder' is '{folder}', but its sub-folders are empty; put the "
            "images there"
        )
    for target in sorted(targets - set(classes)):
        raise StepError(
            f"config: 'attack.target' is {target!r}, which is not a class of {place} ({folder}); "
            f"{nearest(target, classes)}"
        )
    for target in sorted(name for name in targets if classes.count(name) > 1):
        raise StepError(
            f"config: 'attack.target' is {target!r}, which is the name of several classes of "
            f"{place} ({folder}); name another class"
        )
    without = f"; {len(empty)} without images, such as {empty[0]!r}" if empty else ""
    return f"{folder} has {len(classes)} classes{without}"


def check_archive(place: str, path: str) -> str:
    """Check that ImageNet's archive is a tar file."""
    try:
        with open_tar(path) as tar:
            first = next(members(tar), None)
    # The reader raises all of these on broken or malicious files.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError):
        first = None
    if first is None:
        raise StepError(
            f"config: '{place}.imagenet_archive' is {path!r}, which is not a tar file; download it "
            "again"
        )
    return f"{path} is a tar file"


def check_templates(place: str, path: str) -> str:
    """Check that a file of prompt templates is valid."""
    return f"{path} has {len(read_templates(Path(path)))} prompt templates ({place}.templates)"


def check_trigger(attack: Spec) -> str:
    """Check that a trigger accepts its options and works on an image of the attack's size."""
    import torch  # noqa: PLC0415 - takes seconds to import, and a dry run does not need it

    from workflow_scripts.poison.trigger import load_trigger  # noqa: PLC0415

    name, size = attack["trigger"]["name"], attack["image_size"]
    try:
        load_trigger(attack)(torch.full((3, size, size), 128, dtype=torch.uint8), "preflight")
    except Exception as error:  # a trigger of the user's own may raise anything
        raise StepError(f"config: 'attack.trigger' cannot be used: {one_line(error)}") from error
    return f"the trigger {name!r} works on images of {size} x {size} pixels"


def check_weights(model: str, tag: str, offline: bool) -> str:
    """Check that pretrained weights exist, and are in the cache if nodes cannot download them."""
    if Path(tag).is_file():
        return f"the weights {tag} exist"
    # These imports take seconds, and most configs need no weights.
    import open_clip  # noqa: PLC0415
    from huggingface_hub import constants  # noqa: PLC0415
    from open_clip.pretrained import get_pretrained_cfg  # noqa: PLC0415

    # Only the cache is searched below. The environment variable would be read only once.
    constants.HF_HUB_OFFLINE = True

    if model not in open_clip.list_models():
        hint = nearest(model, open_clip.list_models())
        raise StepError(f"config: unknown open_clip model {model!r}; {hint}")
    weights = get_pretrained_cfg(model, tag)
    if not weights:
        hint = nearest(tag, open_clip.list_pretrained_tags_by_model(model))
        raise StepError(f"config: unknown pretrained weights {tag!r} of {model}; {hint}")
    what = f"the weights {tag!r} of {model}"
    if _cached(weights) and _tokenizer_cached(model):
        return f"{what} are in the cache"
    if offline:
        raise StepError(
            f"{what} are not in the cache, and jobs may have no network access; download them on "
            f'this machine: python -c "import open_clip as o; o.create_model({model!r}, '
            f'pretrained={tag!r}); o.get_tokenizer({model!r})"'
        )
    return f"{what} are not in the cache and will be downloaded when needed"


def _cached(weights: Spec) -> bool:
    from open_clip.pretrained import download_pretrained  # noqa: PLC0415

    if not weights.get("hf_hub"):
        name = Path(urlsplit(weights.get("url", "")).path).name
        return Path("~/.cache/clip", name).expanduser().is_file()
    try:
        download_pretrained(weights)
    except FileNotFoundError:
        return False
    return True


def _tokenizer_cached(model: str) -> bool:
    import open_clip  # noqa: PLC0415

    try:
        open_clip.get_tokenizer(model)
    except Exception:  # without network, the library raises various exceptions
        return False
    return True
