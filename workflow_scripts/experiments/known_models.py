"""open_clip's models and weights, read from its files because importing it takes seconds."""

import ast
import functools
from pathlib import Path
from typing import Any

from workflow_scripts.common import annotations
from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.common.files import read_json
from workflow_scripts.common.open_clip_files import open_clip_folder
from workflow_scripts.common.syntax import parsed

Spec = dict[str, Any]

# Defaults of open_clip's CLIPVisionCfg and CLIPTextCfg.
_IMAGE_SIZE, _CONTEXT_LENGTH, _WIDTH, _HEADS = 224, 77, 512, 8
_VISION_WIDTH, _HEAD_WIDTH = 768, 64
_SIDES = {
    "embed_dim", "layers", "width", "head_width", "patch_size", "image_size", "context_length",
    "vocab_size", "heads",
}  # fmt: skip
_QUICK = "-quickgelu"


def check_model(model: Spec, place: str) -> None:
    """Check the name, the config and the pretrained weights of a model.

    Raises:
        StepError: open_clip does not know one of them, or they are inconsistent.
    """
    folder = open_clip_folder()
    if folder is None:
        return
    name, config, tag = model["name"], model["config"], model["pretrained"]
    if config is not None:
        if tag is not None:
            raise StepError(
                f"config: {f'{place}.pretrained'!r} needs a model that open_clip knows, but this "
                "model has a 'config'; set one of them to null"
            )
        _check_inline(folder, config, f"{place}.config")
        return
    names = _names(folder)
    if name not in names:
        raise StepError(
            f"config: {f'{place}.name'!r} is {name!r}, which open_clip does not know; "
            f"{_some_of(name, names)} (or set 'config')"
        )
    if tag is not None:
        _check_pretrained(folder, name, tag, place)


def _check_pretrained(folder: Path, name: str, tag: str, place: str) -> None:
    quick = name.endswith(_QUICK)
    tags = _tags(folder).get(name.removesuffix(_QUICK), {})
    known_tags = {known for known, needs_quick in tags.items() if needs_quick or not quick}
    wanted = tag.lower().replace("-", "_")
    if Path(tag).is_file() or tag in known_tags or wanted in known_tags:
        if not quick and tags.get(wanted) and not model_facts({"name": name, "config": None})[2]:
            raise StepError(
                f"config: {f'{place}.pretrained'!r} is {tag!r}, whose weights were trained with "
                f"QuickGELU; set {f'{place}.name'!r} to {name + _QUICK!r}"
            )
        return
    hint = (
        nearest(tag, known_tags)
        if known_tags
        else "this model has no pretrained weights; set it to null"
    )
    raise StepError(
        f"config: {f'{place}.pretrained'!r} is {tag!r}, which is neither a tag of weights of "
        f"{name} nor a file; {hint}"
    )


def _some_of(name: str, names: list[str]) -> str:
    """Return a hint that names the closest match, without listing all names."""
    hint = nearest(name, names)
    return hint if hint.startswith("did") else "see open_clip.list_models() for valid names"


@functools.cache
def _names(folder: Path) -> list[str]:
    return [path.stem for path in (folder / "model_configs").glob("*.json")]


@functools.cache
def _tags(folder: Path) -> dict[str, dict[str, bool]]:
    """Return, for each model, its tags of weights and whether these need QuickGELU."""
    values = parsed(folder / "pretrained.py").values
    listed = values.get("_PRETRAINED")
    if not isinstance(listed, ast.Dict):
        return {}
    found: dict[str, dict[str, bool]] = {}
    for key, value in zip(listed.keys, listed.values, strict=True):
        call = values.get(value.id) if isinstance(value, ast.Name) else value
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            continue
        if isinstance(call, ast.Call):
            found[key.value] = {
                keyword.arg: "quick_gelu=True" in ast.unparse(keyword.value)
                for keyword in call.keywords
                if keyword.arg
            }
    return found


def model_config(model: Spec) -> Spec | None:
    """Return the open_clip config of a checked model; None if it is not known."""
    if model["config"] is not None:
        return model["config"]
    folder = open_clip_folder()
    file = folder and folder / "model_configs" / f"{model['name']}.json"
    return read_json(file) if file and file.is_file() else None


def model_facts(model: Spec) -> tuple[int | None, int | None, bool, bool]:
    """Return a model's image size, context length, and whether it has QuickGELU and a bias.

    Of an unknown model, the sizes are None, and it is assumed to have a bias but no QuickGELU.
    """
    config = model_config(model)
    if config is None:
        return None, None, False, True
    size = config.get("vision_cfg", {}).get("image_size", _IMAGE_SIZE)
    length = config.get("text_cfg", {}).get("context_length", _CONTEXT_LENGTH)
    bias = config.get("init_logit_bias") is not None
    return size, length, bool(config.get("quick_gelu")), bias


def _check_inline(folder: Path, config: Spec, place: str) -> None:
    """Check the keys of an open_clip model config given by the user."""
    definitions = parsed(folder / "model.py").definitions
    body = definitions["CLIP"].body
    init = next(s for s in body if isinstance(s, ast.FunctionDef) and s.name == "__init__")
    arguments = init.args.args[1:]
    types = {argument.arg: argument.annotation for argument in arguments}
    types["custom_text"] = ast.Name("bool")
    _check_values(config, types, place)
    for argument in arguments[: len(arguments) - len(init.args.defaults)]:
        if argument.arg not in config:
            raise StepError(
                f"config: {f'{place}.{argument.arg}'!r} is missing, which open_clip's models need"
            )
    for key, name in (("vision_cfg", "CLIPVisionCfg"), ("text_cfg", "CLIPTextCfg")):
        if not isinstance(config[key], dict):
            raise StepError(f"config: {f'{place}.{key}'!r} must be a mapping")
        fields = [s for s in definitions[name].body if isinstance(s, ast.AnnAssign)]
        types = {ast.unparse(field.target): field.annotation for field in fields}
        _check_values(config[key], types, f"{place}.{key}")
    _check_sides(config, place)


def _check_sides(config: Spec, place: str) -> None:
    """Check that the widths of the towers are divisible by their numbers of heads."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    width, heads = text.get("width") or _WIDTH, text.get("heads") or _HEADS
    if width % heads:
        raise StepError(
            f"config: {f'{place}.text_cfg.width'!r} is {width}, which is not divisible by the "
            f"number of heads ({heads})"
        )
    if isinstance(vision.get("layers"), list) or vision.get("timm_model_name"):
        return  # a ResNet, or a timm model
    width, head = vision.get("width") or _VISION_WIDTH, vision.get("head_width") or _HEAD_WIDTH
    if width < head or width % (width // head):
        raise StepError(
            f"config: {f'{place}.vision_cfg.width'!r} is {width}, which cannot be divided into "
            f"heads of width {head} ({f'{place}.vision_cfg.head_width'!r})"
        )


def _check_values(given: Spec, types: dict[str, ast.expr | None], place: str) -> None:
    for key, value in given.items():
        if key not in types:
            raise StepError(f"config: unknown key {f'{place}.{key}'!r}; {nearest(key, types)}")
        # open_clip's own configs use null for numbers that do not apply.
        annotation = types[key]
        if value is None or annotation is None:
            continue
        wanted = annotations.problem(ast.unparse(annotation), value)
        sides = value if isinstance(value, list) else [value]
        if wanted is None and key in _SIDES and min(sides, default=0) < 1:
            wanted = "at least 1"
        if wanted:
            raise StepError(f"config: {f'{place}.{key}'!r} must be {wanted}, got {value!r}")
