"""open_clip models: creation by name or inline config, their input format, and text embedding."""

import difflib
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.common.imports import hidden
from workflow_scripts.common.open_clip_files import without_long_words
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.weights import load, read_weights

# timm, which open_clip imports, imports wandb for a function that is not used here. That takes a
# fifth of the time in which a training starts.
with hidden("wandb"):
    import open_clip

# The two model classes of open_clip, which ships no types.
Model: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP


def create(spec: ModelSpec, pretrained: bool = False) -> Model:
    """Create a float32 model on the CPU; random weights are drawn from torch's global generator.

    Args:
        spec: The model; an inline config (arguments of ``open_clip.CLIP``) overrides the name.
        pretrained: Load ``spec.pretrained`` if it is set: an open_clip tag or a file of weights.

    Raises:
        StepError: open_clip does not know the model or the tag, or cannot download the weights; or
            the file's weights do not fit the model.
    """
    if spec.config is not None:
        model = _from_config(spec, spec.config)
    else:
        _check_name(spec.name)
        weights = spec.pretrained if pretrained else None
        file = weights if weights is not None and Path(weights).is_file() else None
        tag = None if file else weights
        _check_activation(spec.name, tag)
        # open_clip warns about random weights on the root logger, but they are intended here.
        logging.disable(logging.WARNING)
        try:
            model = open_clip.create_model(spec.name, pretrained=tag)
        except (RuntimeError, OSError, ValueError) as error:
            raise StepError(f"open_clip cannot create {spec.name} ({tag}): {error}") from error
        finally:
            logging.disable(logging.NOTSET)
        if file is not None:
            load(model, read_weights(file), file)
    return model


def loaded(spec: ModelSpec, checkpoint: str | Path | None) -> Model:
    """Create a model with the weights of a checkpoint, or with its pretrained weights if None.

    Raises:
        StepError: As :func:`create`, or the checkpoint is missing or does not fit.
    """
    model = create(spec, pretrained=checkpoint is None)
    if checkpoint is not None:
        load(model, read_weights(checkpoint), checkpoint)
    return model


def _from_config(spec: ModelSpec, declared: dict[str, Any]) -> Model:
    if spec.pretrained is not None:
        raise StepError(
            f"model.pretrained requires a model known to open_clip, but {spec.name} has a config; "
            "remove one of the two"
        )
    config = dict(declared)
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    try:
        return kind(**config)
    # open_clip does not validate its arguments: errors occur wherever they are first used.
    except (TypeError, KeyError, ValueError, AttributeError, RuntimeError) as error:
        raise StepError(
            f"model.config of {spec.name} is not a valid open_clip config: {error}"
        ) from error


def _check_name(name: str) -> None:
    known = open_clip.list_models()
    if name not in known:
        similar = ", ".join(difflib.get_close_matches(name, known, 3))
        hint = f"similar: {similar}" if similar else "see open_clip.list_models()"
        raise StepError(f"unknown model {name!r} ({hint}); correct it or set model.config")


def _check_activation(name: str, tag: str | None) -> None:
    """Reject weights trained with a different activation, about which open_clip only warns."""
    wants_quick = bool(tag) and open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)
    if wants_quick and not open_clip.get_model_config(name).get("quick_gelu", False):
        raise StepError(
            f"the weights {tag!r} were trained with QuickGELU; use the model {name}-quickgelu"
        )


def tokenizer(spec: ModelSpec, context_length: int) -> Callable[[list[str]], Tensor]:
    """Return the tokenizer of a model, which maps n texts to int64 [n, context_length]."""
    # Not a lambda, because loader processes receive a copy.
    return functools.partial(_tokens, _tokenizer(spec, context_length))


def _tokens(tokenize: Callable[[list[str]], Tensor], texts: list[str]) -> Tensor:
    return tokenize([without_long_words(text) for text in texts])


def _tokenizer(spec: ModelSpec, context_length: int) -> Callable[[list[str]], Tensor]:
    if spec.config is None:
        return open_clip.get_tokenizer(spec.name, context_length=context_length)
    name = spec.config.get("text_cfg", {}).get("hf_tokenizer_name")
    if name:
        return open_clip.tokenizer.HFTokenizer(name, context_length=context_length)
    return open_clip.SimpleTokenizer(context_length=context_length)


def image_size(model: Model) -> int:
    """Return the side of the model's square input, in pixels.

    Raises:
        StepError: The input is not square.
    """
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    if height != width:
        raise StepError(
            f"the model's input is {height} x {width} pixels; only square inputs are supported"
        )
    return int(height)


def normalization(model: Model) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation for images in [0, 1], float32 [3, 1, 1] each."""
    mean = getattr(model.visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN
    std = getattr(model.visual, "image_std", None) or open_clip.OPENAI_DATASET_STD
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)


def reads_causally(model: Model) -> bool:
    """Return whether tokens after the end of a text have no influence on its embedding.

    This holds for CLIP's text tower, which is causal and pooled at the end-of-text token.
    """
    return (
        type(model) is open_clip.CLIP
        and model.text_pool_type == "argmax"
        and model.attn_mask is not None
        and isinstance(model.text_projection, nn.Parameter)
    )


def encode_text(model: Model, tokens: Tensor) -> Tensor:
    """Return the text embeddings [n, d], not normalised.

    ``open_clip.CLIP.encode_text`` accepts the full context length only. If :func:`reads_causally`,
    this function also accepts tokens truncated after the longest text and gives the same result up
    to rounding.

    Args:
        model: An open_clip model.
        tokens: int64 [n, length], where length is at most the model's context length.
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
    """Return the length d of an embedding."""
    tokens = torch.zeros(
        1, model.context_length, dtype=torch.int64, device=model.logit_scale.device
    )
    return encode_text(model, tokens).shape[1]


def spec_from_options(name: str, config: str | None) -> ModelSpec:
    """Return the model spec given on a command line.

    Args:
        name: Name of the model.
        config: JSON file with the open_clip config of a model that open_clip does not list.

    Raises:
        StepError: The file does not exist or does not hold an object.
    """
    if config is not None and not Path(config).is_file():
        raise StepError(f"the model config {config} does not exist")
    content = read_json(config) if config else None
    if not isinstance(content, dict | None):
        raise StepError(f"{config} must hold an object, the open_clip config of a model")
    return ModelSpec(name=name, config=content)
