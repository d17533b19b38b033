"""Preflight's checks of what the user provides: URL lists, evaluation images, weights to fetch."""

import os
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.compute as pc

from workflow_scripts.common.attacks import VARIANTS, parts_of
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.common.files import visible_files
from workflow_scripts.data.classes import folder_classes, read_templates
from workflow_scripts.data.lists import first_rows, format_of
from workflow_scripts.experiments.artefacts import needed
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.own_inputs import files_of

Spec = dict[str, Any]


def input_checks(config: Spec, plan: Plan, runs: list[str], offline: bool) -> Iterator[Any]:
    """Yield the checks of the inputs that runs need, as far as the workflow does not make them.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
        runs: Their ids.
        offline: Whether the machines that train have no network, as far as anybody knows.
    """
    specs = [plan.runs[run] for run in runs]
    data = plan.data
    shards = {data.sources[data.datasets[s["dataset"]]["source"]]["shards"] for s in specs}
    for name in sorted({data.lists[data.shards[one]["list"]]["name"] for one in shards}):
        source = config["sources"][name]
        if urlsplit(source["list"]).scheme not in ("http", "https"):
            yield from _provided(config, f"sources.{name}.list", source["list"])
            if Path(source["list"]).is_file():
                yield partial(check_list, f"sources.{name}", source)
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
    labels = [plan.labels[s["labels_id"]] for s in specs if s["labels_id"]]
    made = [plan.artefacts.specs[name] for name in needed(plan.artefacts.specs, specs)]
    models = [s["model"] for s in [*specs, *labels, *made] if s.get("kind") != "cleaning"]
    pretrained = {(m["name"], m["pretrained"]) for m in models if m and m.get("pretrained")}
    for model, tag in sorted(pretrained):
        yield partial(check_weights, model, tag, offline)


def evaluation_checks(config: Spec, name: str, targets: set[str]) -> Iterator[Any]:
    """Yield the checks of one evaluation set, whose classes have to include ``targets``."""
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
    if not Path(path).is_relative_to(config["pathvars"]["results"]):
        yield partial(check_input, place, path)


def check_input(place: str, path: str) -> str:
    """Check that a file or folder that the config names is there and can be read."""
    if not Path(path).exists():
        raise StepError(f"{place} of the config is {path}, which is not there; put it there")
    if not os.access(path, os.R_OK):
        raise StepError(f"{place} of the config is {path}, which you may not read; chmod it")
    if Path(path).is_dir() and not any(Path(path).iterdir()):
        raise StepError(f"{place} of the config is {path}, which is empty; fill it")
    return f"{path} is there ({place})"


def check_list(place: str, source: Spec) -> str:
    """Check that the first rows of a URL list have the columns that the config declares."""
    path, columns = source["list"], source["columns"]
    declared = source.get("format", "auto")
    format = format_of(path) if declared == "auto" else declared
    table, rows = first_rows(path, format, columns, source.get("header", False))
    web = pc.sum(pc.match_substring_regex(table["url"], "^(?i:https?)://[^/]")).as_py() or 0
    if web < rows / 2 or not rows:
        raise StepError(
            f"of the first {rows} rows of {path} only {web} have an http(s) URL in the column "
            f"url; correct {place}.columns ({', '.join(columns)}), format or header"
        )
    return f"{web} of the first {rows} rows of {path} have an http(s) URL"


def check_folder(place: str, evaluation: Spec, targets: set[str]) -> str:
    """Check that a folder of images has sub-folders with files, the attacks' targets among them."""
    folder, names = Path(evaluation["folder"]), evaluation.get("classes")
    folders, classes = folder_classes(folder, names and Path(names), "names" in evaluation)
    empty = [sub.name for sub in folders if not visible_files(sub)]
    if len(empty) == len(folders):
        raise StepError(f"{place}.folder is {folder}, whose sub-folders are empty; fill them")
    for target in sorted(targets - set(classes)):
        raise StepError(
            f"an attack's target is {target!r}, which is not a class of {place} ({folder}); "
            f"set attack.target to one of its classes ({nearest(target, classes)})"
        )
    without = f"; {len(empty)} without an image, {empty[0]!r} among them" if empty else ""
    return f"{folder} has {len(classes)} classes{without}"


def check_archive(place: str, path: str) -> str:
    """Check that ImageNet's archive is a tar."""
    if not tarfile.is_tarfile(path):
        raise StepError(f"{place}.imagenet_archive is {path}, which is not a tar; fetch it again")
    return f"{path} is a tar"


def check_templates(place: str, path: str) -> str:
    """Check that a file of prompt templates can be used."""
    return f"{path} has {len(read_templates(Path(path)))} prompt templates ({place}.templates)"


def check_weights(model: str, tag: str, offline: bool) -> str:
    """Check that open_clip has pretrained weights, in its cache where nodes cannot fetch them."""
    if Path(tag).is_file():
        return f"the weights {tag} are there"
    wanted_offline = os.environ.get("HF_HUB_OFFLINE")
    # Read when the library is imported, so that what follows looks into the cache only.
    os.environ["HF_HUB_OFFLINE"] = "1"
    import open_clip  # noqa: PLC0415 - it takes seconds, and most configs name no weights
    from open_clip.pretrained import get_pretrained_cfg  # noqa: PLC0415

    if model not in open_clip.list_models():
        hint = nearest(model, open_clip.list_models())
        raise StepError(f"open_clip has no model {model!r}, which the config names; {hint}")
    weights = get_pretrained_cfg(model, tag)
    if not weights:
        hint = nearest(tag, open_clip.list_pretrained_tags_by_model(model))
        raise StepError(f"open_clip has no weights {tag!r} of {model}; {hint}")
    what = f"the weights {tag!r} of {model}"
    if _cached(weights) and _tokenizer_cached(model):
        return f"{what} are in the cache"
    if offline or wanted_offline:
        raise StepError(
            f"{what} are not in the cache, and a job may have no network to fetch them; run here, "
            f'with network: python -c "import open_clip as o; o.create_model({model!r}, '
            f'pretrained={tag!r}); o.get_tokenizer({model!r})"'
        )
    return f"{what} are not in the cache, and are fetched when they are needed"


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
    except Exception:  # whatever the library raises without network
        return False
    return True
