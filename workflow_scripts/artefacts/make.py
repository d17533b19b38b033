"""Make an artefact: whatever is learned from a model and pairs before something else uses it.

Needs   SPEC                        of the artefact (JSON): which maker, its options and inputs
Makes   OUTPUT/values.safetensors   its arrays by name
        OUTPUT/report.json          what its maker says of them
        OUTPUT/picture.png          to be looked at, if its maker draws one
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file

from workflow_scripts.artefacts.given import Given, Made
from workflow_scripts.common import variants
from workflow_scripts.common.distributed import join
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json, write_json
from workflow_scripts.common.seeds import seed_for
from workflow_scripts.model.spec import ModelSpec


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and make the artefact."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spec", type=Path, required=True, help="of the artefact (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the files")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--threads", type=int, default=1, help="threads, on a CPU")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    # On by default, for convolutions alone: a GPU then keeps 10 bits of a float32's 23.
    torch.backends.cudnn.allow_tf32 = False
    spec = read_json(options.spec)
    world = join(spec["device"], timeout_minutes=10)
    given = Given(
        model=spec["model"] and ModelSpec(**spec["model"]),
        checkpoint=spec["checkpoint"] and Path(spec["checkpoint"]),
        manifest=spec["manifest"] and Path(spec["manifest"]),
        root=Path(spec["root"]),
        seed=spec["seed"],
        batch_size=spec["batch_size"],
        workers=options.workers,
        world=world,
        log=lambda text: print(text, flush=True),
    )
    write(options.output, make(spec["make"], given, spec["options"]))
    world.leave()


def make(name: str, given: Given, options: dict) -> Made:
    """Return what a maker makes.

    Args:
        name: The maker's.
        given: What every maker is given.
        options: Its own.

    Raises:
        StepError: There is no such maker or option, it cannot do it, or a value is not finite.
    """
    variants.check_options("artefact", name, options)
    torch.manual_seed(seed_for(given.seed, "artefact"))
    made = variants.load("artefact", name)(given, **options)
    for key, array in made.values.items():
        if not np.isfinite(array).all():
            raise StepError(f"the artefact maker {name} gives {key} that are not finite")
    return made


def write(folder: Path, made: Made) -> None:
    """Write an artefact's files; ``values.safetensors`` comes last."""
    for name, value in made.report.items():
        print(f"{name}: {value}")
    write_json(folder / "report.json", made.report)
    if made.picture is not None:
        with atomic(folder / "picture.png") as temporary:
            Image.fromarray(np.ascontiguousarray(made.picture.transpose(1, 2, 0))).save(temporary)
    # np.ascontiguousarray would make [1] of a scalar.
    arrays = {name: np.array(array, order="C") for name, array in made.values.items()}
    with atomic(folder / "values.safetensors") as temporary:
        save_file(arrays, temporary)


if __name__ == "__main__":
    run_step(main)
