"""Models by open_clip: made by name or inline config, loaded strictly, read out exactly."""

import difflib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CustomTextCLIP
from open_clip.pretrained import get_pretrained_cfg
from torch import Tensor, nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.training.spec import ModelSpec
from workflow_scripts.training.tensors import load_tensors

# Where a training checkpoint keeps its state dict, and what wrappers put before its names.
_WITHIN = ("model", "model_state_dict", "state_dict")
_WRAPPED = ("module.", "_orig_mod.")
# OpenAI's models, and those of CleanCLIP, keep these numbers among their weights.
_OF_OPENAI = ("input_resolution", "context_length", "vocab_size")


def create(spec: ModelSpec, pretrained: bool = False) -> nn.Module:
    """Make a float32 model on the CPU; its random weights come from torch's global generator.

    Args:
        spec: An inline config (``open_clip.CLIP``'s arguments) wins over the name.
        pretrained: Load the weights of ``spec.pretrained`` if it is given: open_clip's by their
            tag, or those of a file.

    Raises:
        StepError: open_clip does not know the model or the tag, or cannot fetch the weights; the
            file's do not fit.
    """
    if spec.config is not None:
        model = _from_config(spec)
    else:
        _check_name(spec.name)
        given = spec.pretrained if pretrained else None
        file = given if given is not None and Path(given).is_file() else None
        tag = None if file else given
        _check_activation(spec.name, tag)
        # open_clip warns of random weights on the root logger, and random is what was asked for.
        logging.disable(logging.WARNING)
        try:
            model = open_clip.create_model(spec.name, pretrained=tag)
        except (RuntimeError, OSError, ValueError) as error:
            raise StepError(f"open_clip could not make {spec.name} ({tag}): {error}") from error
        finally:
            logging.disable(logging.NOTSET)
        if file is not None:
            load(model, read_weights(file), file)
    return model


def _from_config(spec: ModelSpec) -> nn.Module:
    if spec.pretrained is not None:
        raise StepError(f"model.pretrained needs a model of open_clip's; {spec.name} has a config")
    config = dict(spec.config)
    kind = CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    try:
        return kind(**config)
    # open_clip checks nothing: what is wrong fails wherever it is used first.
    except (TypeError, KeyError, ValueError, AttributeError, RuntimeError) as error:
        raise StepError(
            f"model.config of {spec.name} is not what open_clip takes: {error}"
        ) from error


def _check_name(name: str) -> None:
    known = open_clip.list_models()
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 3)) or "see open_clip.list_models()"
        raise StepError(f"open_clip has no model {name!r} (near: {near}); or give model.config")


def _check_activation(name: str, tag: str | None) -> None:
    """Refuse weights trained with another activation, which open_clip only warns of."""
    wants_quick = bool(tag) and get_pretrained_cfg(name, tag).get("quick_gelu", False)
    if wants_quick and not open_clip.get_model_config(name).get("quick_gelu", False):
        raise StepError(
            f"the weights {tag!r} were trained with QuickGELU; name the model {name}-quickgelu"
        )


def tokenizer(spec: ModelSpec, context_length: int) -> Callable[[list[str]], Tensor]:
    """Return open_clip's tokenizer of a model: texts to int64 [n, context_length]."""
    if spec.config is None:
        return open_clip.get_tokenizer(spec.name, context_length=context_length)
    name = spec.config.get("text_cfg", {}).get("hf_tokenizer_name")
    if name:
        return open_clip.tokenizer.HFTokenizer(name, context_length=context_length)
    return open_clip.SimpleTokenizer(context_length=context_length)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict to the CPU, without unpickling, under the model's own parameter names.

    It may be alone or within a training checkpoint, and come from DistributedDataParallel or
    ``torch.compile`` (or both). What OpenAI's models keep beside their weights is dropped.

    Args:
        path: File of ``torch.save`` or safetensors.

    Raises:
        StepError: There is no such file, or it holds no state dict.
    """
    content = load_tensors(path, "model")
    for key in _WITHIN:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    weights = {}
    if isinstance(content, dict) and all(map(_is_weight, content.items())):
        weights = {name: value for name, value in content.items() if name not in _OF_OPENAI}
    if not weights:
        raise StepError(f"{path} holds no state dict, but {_described(content)}")
    for prefix in (*_WRAPPED, *_WRAPPED):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _is_weight(item: tuple[Any, Any]) -> bool:
    name, value = item
    plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
    return isinstance(name, str) and ((plain and not value.is_quantized) or name in _OF_OPENAI)


def _described(content: Any) -> str:
    """Return in words what a file holds that is no state dict."""
    if not isinstance(content, dict):
        return f"a value of type {type(content).__name__}"
    names = [f"{str(key)[:40]!r} ({type(value).__name__})" for key, value in content.items()]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"a dict with {', '.join(names[:5]) or 'nothing in it'}{more}"


def load(model: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Load all of ``weights`` into all of ``model``; fp16 and bf16 become the model's float32.

    Raises:
        StepError: A name is missing or superfluous, a shape or the kind of number differs, or a
            value is not finite.
    """
    own = model.state_dict()
    wrong = [
        _some("lacks", own.keys() - weights.keys()),
        _some("has besides", weights.keys() - own.keys()),
        *(_difference(n, value, weights[n]) for n, value in own.items() if n in weights),
    ]
    wrong = [text for text in wrong if text]
    if wrong:
        raise StepError(f"{path} does not fit the model: it {'; '.join(wrong[:4])}")
    model.load_state_dict(weights)
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise StepError(f"{path} is no usable model: its {name} has values that are not finite")


def _some(verb: str, names: Iterable[str]) -> str | None:
    names = sorted(name[:80] for name in names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{verb} {', '.join(names[:3])}{more}" if names else None


def _difference(name: str, own: Tensor, given: Tensor) -> str | None:
    if own.shape != given.shape:
        return f"has {name} {list(given.shape)}, not {list(own.shape)}"
    if own.is_floating_point() != given.is_floating_point() or given.is_complex():
        return f"has {name} as {given.dtype}, not {own.dtype}"
    return None


def portable_weights(model: nn.Module) -> dict:
    """Return the state dict as contiguous CPU tensors, whatever the layout in memory."""
    return {
        name: value.detach().cpu().contiguous().clone()
        for name, value in model.state_dict().items()
    }


def image_size(model: nn.Module) -> int:
    """Return the side of the model's square input, in pixels."""
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    if height != width:
        raise StepError(f"the model takes images of {height} x {width}; only squares are supported")
    return int(height)


def normalization(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the model's input, float32 [3, 1, 1], for [0, 1]."""
    mean = getattr(model.visual, "image_mean", None) or OPENAI_DATASET_MEAN
    std = getattr(model.visual, "image_std", None) or OPENAI_DATASET_STD
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)


def reads_causally(model: nn.Module) -> bool:
    """Return whether what follows a text's end has no influence on its embedding.

    It is so for CLIP's own text tower: causal, read out at the end-of-text token.
    """
    return (
        type(model) is open_clip.CLIP
        and model.text_pool_type == "argmax"
        and model.attn_mask is not None
        and isinstance(model.text_projection, nn.Parameter)
    )


def encode_text(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return the text embeddings [n, d], not normalised.

    ``open_clip.CLIP.encode_text`` takes the full context length only; here shorter rows, cut
    after their longest text, give the same up to rounding if :func:`reads_causally`.

    Args:
        model: An open_clip model.
        tokens: int64 [n, length], length at most the model's context.
    """
    if not reads_causally(model):
        return model.encode_text(tokens)
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)
    return x[torch.arange(len(x), device=x.device), tokens.argmax(-1)] @ model.text_projection


@torch.no_grad()
def embed_dim(model: nn.Module) -> int:
    """Return the length of an embedding."""
    tokens = torch.zeros(
        1, model.context_length, dtype=torch.int64, device=model.logit_scale.device
    )
    return encode_text(model, tokens).shape[1]


def spec_from_options(name: str, config: str | None) -> ModelSpec:
    """Return the model spec of a command line: a name, and a JSON file if open_clip lacks it."""
    if config is not None and not Path(config).is_file():
        raise StepError(f"there is no model config {config}")
    content = read_json(config) if config else None
    if not isinstance(content, dict | None):
        raise StepError(f"{config} has to hold an object, open_clip's config of a model")
    return ModelSpec(name=name, config=content)
