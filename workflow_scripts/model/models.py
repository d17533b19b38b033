"""Models by open_clip: made by name or inline config, read out exactly."""

import difflib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CustomTextCLIP
from open_clip.pretrained import get_pretrained_cfg
from torch import Tensor, nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.weights import load, read_weights

# What open_clip makes; it ships no types.
Model: TypeAlias = open_clip.CLIP | CustomTextCLIP


def create(spec: ModelSpec, pretrained: bool = False) -> Model:
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
        model = _from_config(spec, spec.config)
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


def loaded(spec: ModelSpec, checkpoint: str | Path | None) -> Model:
    """Make a model with the weights of a checkpoint, or else with its pretrained ones.

    Raises:
        StepError: As :func:`create`, or the checkpoint is missing or does not fit.
    """
    model = create(spec, pretrained=checkpoint is None)
    if checkpoint is not None:
        load(model, read_weights(checkpoint), checkpoint)
    return model


def _from_config(spec: ModelSpec, declared: dict[str, Any]) -> Model:
    if spec.pretrained is not None:
        raise StepError(f"model.pretrained needs a model of open_clip's; {spec.name} has a config")
    config = dict(declared)
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


def image_size(model: Model) -> int:
    """Return the side of the model's square input, in pixels."""
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    if height != width:
        raise StepError(f"the model takes images of {height} x {width}; only squares are supported")
    return int(height)


def normalization(model: Model) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the model's input, float32 [3, 1, 1], for [0, 1]."""
    mean = getattr(model.visual, "image_mean", None) or OPENAI_DATASET_MEAN
    std = getattr(model.visual, "image_std", None) or OPENAI_DATASET_STD
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)


def reads_causally(model: Model) -> bool:
    """Return whether what follows a text's end has no influence on its embedding.

    It is so for CLIP's own text tower: causal, read out at the end-of-text token.
    """
    return (
        type(model) is open_clip.CLIP
        and model.text_pool_type == "argmax"
        and model.attn_mask is not None
        and isinstance(model.text_projection, nn.Parameter)
    )


def encode_text(model: Model, tokens: Tensor) -> Tensor:
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
def embed_dim(model: Model) -> int:
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
