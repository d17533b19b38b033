"""The two towers of a model, with their preprocessing."""

import contextlib
import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workflow_scripts.model import models
from workflow_scripts.model.spec import ModelSpec


class Encoder:
    """Embeds images and texts with an open_clip model.

    This is deliberately not an ``nn.Module``, so that it does not register the model's parameters.

    Args:
        model: The model, on its device.
        spec: Its name or config, required to tokenize texts.
        amp: Run the towers in bf16 autocast.

    Attributes:
        model: The model.
        image_size: Side of its square input, in pixels.
        context_length: Length of its text input, in tokens.
        embed_dim: Length d of an embedding.
    """

    def __init__(self, model: models.Model, spec: ModelSpec | None = None, amp: bool = False):
        self.model, self.spec, self.amp = model, spec, amp
        self.image_size = models.image_size(model)
        self.context_length = model.context_length
        self.embed_dim = models.embed_dim(model)
        mean, std = models.normalization(model)
        self._mean, self._std = mean.to(self.device), std.to(self.device)

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.logit_scale.device

    @property
    def scale(self) -> Tensor:
        """exp(logit_scale), a scalar."""
        return self.model.logit_scale.exp()

    @property
    def bias(self) -> nn.Parameter | None:
        """The model's logit_bias, if it has one."""
        return getattr(self.model, "logit_bias", None)

    def images(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Return the embeddings of images, float32 [n, d].

        Gradients flow to the pixels of floating-point images.

        Args:
            images: uint8 [n, 3, S, S], or floating point in the same range of 0 to 255.
            normalize: Divide each embedding by its norm.
        """
        x = (images.float() / 255 - self._mean) / self._std
        x = x.contiguous(memory_format=torch.channels_last)
        with self._autocast(x.device):
            return _normalized(self.model.encode_image(x).float(), normalize)

    def texts(self, tokens: Tensor, normalize: bool = True) -> Tensor:
        """Return the embeddings of texts, float32 [n, d].

        Args:
            tokens: int64 [n, length].
            normalize: Divide each embedding by its norm.
        """
        with self._autocast(tokens.device):
            return _normalized(models.encode_text(self.model, tokens).float(), normalize)

    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Return the model's tokenizer, which maps n texts to int64 [n, context_length]."""
        assert self.spec is not None  # see the class docstring
        return models.tokenizer(self.spec, self.context_length)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Set evaluation mode and disable gradients; restore the modes of all modules on exit."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in modes.items():
                module.training = training

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.amp)


def frozen_copy(encoder: Encoder) -> Encoder:
    """Return a copy of an encoder whose model is frozen and in evaluation mode."""
    model = copy.deepcopy(encoder.model).eval().requires_grad_(False)
    return Encoder(model, encoder.spec, encoder.amp)


def _normalized(embeddings: Tensor, normalize: bool) -> Tensor:
    return F.normalize(embeddings, dim=-1) if normalize else embeddings
