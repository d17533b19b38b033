"""Channel Lipschitzness pruning (Zheng et al., ECCV 2022): prunes outlying channels."""

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
    """Prune ``model`` in place, without data.

    In each convolution of the image tower that is followed by batch norm, channels whose
    :func:`lipschitz_bounds` exceed the layer's mean by more than ``u`` standard deviations are
    pruned: the weight and bias of their batch norm are set to 0, which makes the channel 0 for
    every image. Pruned channels are not frozen: a run with ``epochs`` above 0 may retrain them.

    Args:
        model: The start model.
        fresh: Not used.
        u: Threshold in standard deviations; 3 in the paper for CIFAR-10. Lower values prune more.

    Raises:
        StepError: The image tower has no batch norm after a convolution.
    """
    layers = list(normalised_convolutions(model.visual))
    if not layers:
        raise StepError(
            "the start change channel_lipschitz needs an image tower with batch norm after its "
            "convolutions, which this model's lacks; use a ResNet such as RN50"
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
    """Yield each convolution whose output goes into a batch norm, together with the batch norm.

    Relies on the order of definition, in which a batch norm directly follows its convolution, as in
    the ResNets of open_clip and timm. Batch norms without affine parameters are skipped.
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
    """Return an upper bound of the Lipschitz constant of each channel, as in the paper.

    This is the largest singular value of the channel's weights, reshaped to an [input channels,
    kernel positions] matrix, times the batch norm's factor ``|weight| / sqrt(var + eps)``.

    Returns:
        float64 ``[channels]``.
    """
    assert norm.running_var is not None  # true of all batch norms in open_clip and timm
    matrices = convolution.weight.double().flatten(2)
    gains = norm.weight.double().abs() / (norm.running_var.double() + norm.eps).sqrt()
    return torch.linalg.matrix_norm(matrices, ord=2) * gains
