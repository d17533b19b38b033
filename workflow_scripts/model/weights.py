"""Weights from files: read without unpickling, loaded strictly, written in one layout."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.model.tensors import load_tensors

# Where a training checkpoint keeps its state dict, and what wrappers put before its names.
_WITHIN = ("model", "model_state_dict", "state_dict")
_WRAPPED = ("module.", "_orig_mod.")
# OpenAI's models, and those of CleanCLIP, keep these numbers among their weights.
_OF_OPENAI = ("input_resolution", "context_length", "vocab_size")


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
    found = [
        _some("lacks", own.keys() - weights.keys()),
        _some("has besides", weights.keys() - own.keys()),
        *(_difference(n, value, weights[n]) for n, value in own.items() if n in weights),
    ]
    wrong = [text for text in found if text]
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
