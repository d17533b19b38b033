"""The weights of a model, e.g. for interpolation by ``wise_ft``."""

from workflow_scripts.artefacts.makers import Given, Made

NEEDS = ("model",)


def make(given: Given) -> Made:
    """Return the state dict of the model."""
    weights = {
        name: value.cpu().numpy() for name, value in given.encoder.model.state_dict().items()
    }
    return Made(weights, {"numbers": sum(array.size for array in weights.values())})
