"""Channel Lipschitzness pruning (Zheng et al., ECCV 2022): removes channels with outlying gain."""

from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor, nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.model.models import Model


@torch.no_grad()
def change(
    model: Model,
    fresh: Model,
    *,
    u: Annotated[float, ">= 0"] = 3.0,
) -> None:
    """Prune ``model`` in place: no data is needed.

    Of each convolution of the image tower that a batch norm follows, the channels whose
    :func:`lipschitz_bounds` exceed the layer's mean by more than ``u`` standard deviations are
    pruned: weight and bias of their batch norm become 0, so that they are 0 for every image.
    Nothing keeps them there: a run with ``epochs`` above 0 may train them again.

    Args:
        model: The start model.
        fresh: Not used.
        u: Standard deviations, 3 in the paper for CIFAR-10; lower prunes more.

    Raises:
        StepError: The image tower has no batch norm after a convolution.
    """
    layers = list(normalised_convolutions(model.visual))
    if not layers:
        raise StepError(
            "the start change channel_lipschitz needs an image tower with batch norm after its "
            "convolutions, which this model's has not; use a ResNet such as RN50"
        )
    pruned = 0
    for convolution, norm in layers:
        bounds = lipschitz_bounds(convolution, norm)
        outlying = bounds > bounds.mean() + u * bounds.std()
        norm.weight[outlying] = 0
        norm.bias[outlying] = 0
        pruned += int(outlying.sum())
    channels = sum(norm.num_features for _, norm in layers)
    print(f"channel_lipschitz: {pruned} of {channels} channels in {len(layers)} layers are pruned")


def normalised_convolutions(tower: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Yield each convolution whose output a batch norm takes, and the batch norm.

    In the modules' order, which is that of their definition: the batch norm comes next after its
    convolution, as in open_clip's and timm's ResNets. One without an affine map is left out.
    """
    before = None
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            before = module
        elif isinstance(module, nn.BatchNorm2d):
            if before is not None and before.out_channels == module.num_features and module.affine:
                yield before, module
            before = None


def lipschitz_bounds(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Return an upper bound of each channel's Lipschitz constant, as in the paper.

    It is the largest singular value of the channel's weights, reshaped to a matrix of input
    channels by kernel positions, times the batch norm's factor ``|weight| / sqrt(var + eps)``.

    Returns:
        float64 ``[channels]``.
    """
    assert norm.running_var is not None  # no batch norm of open_clip's or timm's goes without
    matrices = convolution.weight.double().flatten(2)
    gains = norm.weight.double().abs() / (norm.running_var.double() + norm.eps).sqrt()
    return torch.linalg.matrix_norm(matrices, ord=2) * gains
