"""Setting up a run: its start model on the device, and its training pairs."""

import torch
from torch import nn

from workflow_scripts.common import variants
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import seed_for
from workflow_scripts.data.stored_images import Images
from workflow_scripts.model import models
from workflow_scripts.training.pairs import Pairs
from workflow_scripts.training.spec import RunSpec
from workflow_scripts.training.views import Views


def start_model(spec: RunSpec, world: ProcessGroup) -> models.Model:
    """Create the start model, load its weights, apply the start change, and move it to the device.

    Raises:
        StepError: The weights are missing or do not fit the model, the start change is invalid, or
            batch norm is to be synchronised on CPUs.
    """
    torch.manual_seed(seed_for(spec.seed, "model"))
    start = spec.inputs.start
    model = models.loaded(spec.model, start)
    if spec.start_change is not None:
        _change(model, spec, spec.start_change)
    if spec.sync_batch_norm and world.size > 1:
        if world.device.type != "cuda":
            raise StepError("sync_batch_norm is supported on GPUs only; set it to false")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.to(world.device)
    # Faster on GPUs and on CPUs: 56 instead of 87 ms for the demo's ResNet and 64 images.
    model.visual.to(memory_format=torch.channels_last)
    return model


def _change(model: models.Model, spec: RunSpec, declared: dict) -> None:
    options = dict(declared)
    name = options.pop("name", None)
    if name is None:
        raise StepError("start_change has no 'name'; add it")
    change = variants.load("start_change", name)
    variants.check_options("start_change", name, options)
    torch.manual_seed(seed_for(spec.seed, "start_change"))
    change(model, models.create(spec.model), **options)


def training_pairs(spec: RunSpec, images: Images, model: models.Model, views: Views) -> Pairs:
    """Return the run's pairs, including the held-out ones, in the requested views.

    Raises:
        StepError: The augmented captions are required but missing, or a file is damaged.
    """
    inputs = spec.inputs
    return Pairs(
        images=images,
        manifest=inputs.manifest,
        tokens=inputs.tokens,
        augmented=inputs.augmented,
        size=models.image_size(model),
        context_length=model.context_length,
        seed=spec.seed,
        cut=models.reads_causally(model),
        views=views,
    )
