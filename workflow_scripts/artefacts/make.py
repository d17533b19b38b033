"""Make an artefact: values learned from a model and pairs, for use by other steps.

Inputs   SPEC                        spec of the artefact (JSON): the maker, its options and inputs
Outputs  OUTPUT/values.safetensors   arrays by name
         OUTPUT/report.json          the maker's summary of them
         OUTPUT/picture.png          for visual inspection, if the maker returns a picture
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
from workflow_scripts.common.tensor_files import raising_os_errors
from workflow_scripts.common.workers import loader_workers
from workflow_scripts.model.spec import ModelSpec


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and make the artefact."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spec", type=Path, required=True, help="artefact spec (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the outputs")
    parser.add_argument("--cores", type=int, default=1, help="CPU cores (1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.cores)
    # Enabled by default for convolutions; TF32 keeps only 10 of the 23 mantissa bits of float32.
    torch.backends.cudnn.allow_tf32 = False
    spec = read_json(options.spec)
    world = join(spec["device"], timeout_minutes=10)
    given = Given(
        model=spec["model"] and ModelSpec(**spec["model"]),
        checkpoint=spec["checkpoint"] and Path(spec["checkpoint"]),
        manifest=spec["manifest"] and Path(spec["manifest"]),
        evaluation=spec["evaluation"] and Path(spec["evaluation"]),
        root=Path(spec["root"]),
        seed=spec["seed"],
        batch_size=spec["batch_size"],
        workers=loader_workers(options.cores, world.device.type),
        world=world,
        log=lambda text: print(text, flush=True),
    )
    write(options.output, make(spec["make"], given, spec["options"]))
    world.leave()


def make(name: str, given: Given, options: dict) -> Made:
    """Run a maker and return its result.

    Args:
        name: Name of the maker.
        given: The input of the maker.
        options: Options of the maker.

    Raises:
        StepError: The maker or an option does not exist, the maker fails, or a value is NaN or
            infinite.
    """
    variants.check_options("artefact", name, options)
    torch.manual_seed(seed_for(given.seed, "artefact"))
    made = variants.load("artefact", name)(given, **options)
    for key, array in made.values.items():
        if not np.isfinite(array).all():
            raise StepError(f"the artefact maker {name} returned NaN or infinite values in {key!r}")
    return made


def write(folder: Path, made: Made) -> None:
    """Write the files of an artefact; ``values.safetensors`` is written last."""
    for name, value in made.report.items():
        print(f"{name}: {value}")
    write_json(folder / "report.json", made.report)
    if made.picture is not None:
        with atomic(folder / "picture.png") as temporary:
            Image.fromarray(np.ascontiguousarray(made.picture.transpose(1, 2, 0))).save(temporary)
    # np.ascontiguousarray would change the shape of a scalar to [1].
    arrays = {name: np.array(array, order="C") for name, array in made.values.items()}
    with atomic(folder / "values.safetensors") as temporary, raising_os_errors(temporary):
        save_file(arrays, temporary)


if __name__ == "__main__":
    run_step(main)
