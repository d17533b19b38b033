"""Model weights in files: reading without unpickling code, strict loading, portable layout."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.model.tensors import load_tensors

# Keys under which training checkpoints store the state dict, and prefixes added by wrappers.
_WITHIN = ("model", "model_state_dict", "state_dict")
_WRAPPED = ("module.", "_orig_mod.")
# Numbers among the weights of OpenAI's models and of CleanCLIP's.
_OF_OPENAI = ("input_resolution", "context_length", "vocab_size")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict to the CPU, without unpickling code.

    The state dict may be nested in a training checkpoint. Prefixes of DistributedDataParallel and
    ``torch.compile`` are removed, as are the numbers that OpenAI's models store with their weights.

    Args:
        path: File in the format of ``torch.save`` or safetensors.

    Raises:
        StepError: The file does not exist or does not contain a state dict.
    """
    content = load_tensors(path, "model")
    for key in _WITHIN:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    weights = {}
    if isinstance(content, dict) and all(map(_is_weight, content.items())):
        weights = {name: value for name, value in content.items() if name not in _OF_OPENAI}
    if not weights:
        raise StepError(f"{path} must contain a state dict, but contains {_described(content)}")
    for prefix in (*_WRAPPED, *_WRAPPED):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _is_weight(item: tuple[Any, Any]) -> bool:
    name, value = item
    plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
    return isinstance(name, str) and ((plain and not value.is_quantized) or name in _OF_OPENAI)


def _described(content: Any) -> str:
    """Describe the content of a file that does not contain a state dict."""
    if not isinstance(content, dict):
        return f"a value of type {type(content).__name__}"
    names = [f"{str(key)[:40]!r} ({type(value).__name__})" for key, value in content.items()]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"a dict with {', '.join(names[:5])}{more}" if names else "an empty dict"


def load(model: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Load ``weights`` strictly into ``model``; fp16 and bf16 values are converted to float32.

    Raises:
        StepError: Names are missing or unexpected, a shape or the kind of number differs, or a
            value is NaN or infinite.
    """
    expected = model.state_dict()
    differences = [
        _some("lacks", expected.keys() - weights.keys()),
        _some("has unexpected", weights.keys() - expected.keys()),
        *(_difference(n, value, weights[n]) for n, value in expected.items() if n in weights),
    ]
    found = [text for text in differences if text]
    if found:
        raise StepError(f"{path} does not fit the model: it {'; '.join(found[:4])}")
    model.load_state_dict(weights)
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise StepError(f"{path} is not a usable model: {name} has NaN or infinite values")


def _some(verb: str, names: Iterable[str]) -> str | None:
    names = sorted(name[:80] for name in names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{verb} {', '.join(names[:3])}{more}" if names else None


def _difference(name: str, expected: Tensor, given: Tensor) -> str | None:
    if expected.shape != given.shape:
        return f"has {name} {list(given.shape)}, not {list(expected.shape)}"
    if expected.is_floating_point() != given.is_floating_point() or given.is_complex():
        return f"has {name} as {given.dtype}, not {expected.dtype}"
    return None


def portable_weights(model: nn.Module) -> dict:
    """Return the state dict as contiguous CPU tensors, independent of the memory layout."""
    return {
        name: value.detach().cpu().contiguous().clone()
        for name, value in model.state_dict().items()
    }
