"""Measure training pairs and evaluation images loaded per second on one core.

    OMP_NUM_THREADS=1 python -m benchmarks.loader

The baseline is the published loader: Pillow decodes the file, torchvision transforms resize and
crop the Pillow image and convert it to a float tensor, AutoAugment draws from the global generator,
and open_clip's tokenizer is called on the captions. Its evaluation decodes and transforms all
images once clean and once with the trigger. Images are synthetic (smooth colours with noise) and
stored as in this project: squares of the model's input size, JPEG of quality 95. Only CPU time in
this process is measured, without the transfer between worker processes.
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from open_clip import SimpleTokenizer
from PIL import Image
from torchvision import transforms

from benchmarks.measuring import cpu_seconds, header, row
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import decode_image, stack
from workflow_scripts.data.stored_images import Images
from workflow_scripts.evaluation.goals import goals_of
from workflow_scripts.evaluation.labelled import Labelled
from workflow_scripts.evaluation.zero_shot import _Views as EvaluationViews
from workflow_scripts.training.augmentations.autoaugment import Augmentation
from workflow_scripts.training.pairs import Pairs
from workflow_scripts.training.views import AUGMENTED, PLAIN, Views

LENGTH = 77
ATTACK = {
    "target": "banana", "trigger": {"name": "random", "patch_size": 16}, "victims": "random",
    "captions": {"name": "templates"}, "poisoned": 1, "seed": 0,
}  # fmt: skip
CAPTION = "A photo of a happy dog that runs to the old house near the river"
MEAN, STD = (0.481, 0.458, 0.408), (0.269, 0.261, 0.276)


def made_up_images(count: int, size: int) -> list[bytes]:
    """Return JPEG files of a photograph's size, about 30 kB at 224 px."""
    draw = np.random.default_rng(0)
    files = []
    for _ in range(count):
        coarse = draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        noisy = np.clip(image + draw.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
        files.append(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return files


def write(folder: Path, files: list[bytes]) -> pd.DataFrame:
    """Write the concatenated files and token arrays; return a manifest."""
    (folder / "images.tar").write_bytes(b"".join(files))
    sizes = np.array([len(file) for file in files])
    for name in ("tokens", "augmented"):
        tokens = np.zeros((len(files), LENGTH), np.uint16)
        tokens[:, :16] = 49407
        np.save(folder / f"{name}.npy", tokens)
    frame = pd.DataFrame({"tar": "images.tar", "offset": sizes.cumsum() - sizes, "size": sizes})
    keys = [f"{n:09}" for n in range(len(files))]
    return frame.assign(key=keys, caption=CAPTION, poisoned=False)


def ours(folder: Path, frame: pd.DataFrame, size: int, ssl: bool) -> Callable[[], object]:
    """Return a function that loads a batch of all pairs with this project's loader."""
    pairs = Pairs(
        images=Images(frame, folder),
        manifest=folder / "manifest.parquet",  # read for overlays only
        tokens=folder / "tokens.npy",
        augmented=folder / "augmented.npy",
        size=size,
        context_length=LENGTH,
        seed=0,
        cut=True,
        views=Views([{"plain": PLAIN}, *([{"augmented": AUGMENTED}] if ssl else [])]),
    )
    items = [(0, row) for row in range(len(frame))]
    return lambda: pairs.__getitems__(items)


def plain_preprocessing(size: int) -> transforms.Compose:
    """Return the published preprocessing: Pillow image to normalised float tensor."""
    resize = transforms.Resize(size, transforms.InterpolationMode.BICUBIC)
    last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return transforms.Compose([resize, transforms.CenterCrop(size), *last])


def plain(files: list[bytes], size: int, ssl: bool) -> Callable[[], object]:
    """Return a function that loads a batch of all pairs like the published loader."""
    fit = plain_preprocessing(size)
    policy, tokenize = transforms.AutoAugment(), SimpleTokenizer(context_length=LENGTH)

    def batch() -> list:
        images = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
        loaded = [torch.stack([fit(image) for image in images]), tokenize([CAPTION] * len(files))]
        if ssl:
            loaded.append(torch.stack([fit(policy(image)) for image in images]))
            loaded.append(tokenize([CAPTION] * len(files)))
        return loaded

    return batch


def our_evaluation(folder: Path, frame: pd.DataFrame, size: int) -> Callable[[], object]:
    """Return a function that loads all images as in an evaluation, clean and triggered."""
    labels = np.ones(len(frame), np.int64)
    labelled = Labelled(frame, labels, ["banana", "dog"], ["a photo of a {c}"])
    goals = goals_of(ATTACK | {"image_size": size}, labelled, instances=None)
    views = EvaluationViews(labelled, folder, goals, size)
    return lambda: views.__getitems__([*range(len(frame))])


def plain_evaluation(files: list[bytes], size: int) -> Callable[[], object]:
    """Return a function that loads all images twice, like the published evaluation."""
    fit = plain_preprocessing(size)
    to_tensor, to_image, patch = (
        transforms.ToTensor(),
        transforms.ToPILImage(),
        torch.rand(3, 16, 16),
    )

    def triggered(image: Image.Image) -> Image.Image:
        pixels = to_tensor(image)
        pixels[:, :16, :16] = patch
        return to_image(pixels)

    def batch() -> list:
        clean = torch.stack([fit(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
        opened = (Image.open(io.BytesIO(file)).convert("RGB") for file in files)
        return [clean, torch.stack([fit(triggered(image)) for image in opened])]

    return batch


def rate(function: Callable[[], object], count: int, repeats: int) -> float:
    """Return samples per second of CPU time, the best of several repeats."""
    function()
    return count / min(cpu_seconds(function) for _ in range(repeats))


def parts(files: list[bytes], size: int) -> dict[str, Callable[[], object]]:
    """Return functions that perform the parts of loading, each for all files."""
    images = [decode_image(file) for file in files]
    augment = Augmentation(size)
    pillow = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    return {
        "decoding": lambda: [decode_image(file) for file in files],
        "AutoAugment": lambda: [
            augment._policy.apply(image, generator(0, "augment", 0, n))
            for n, image in enumerate(pillow)
        ],
        "AutoAugment with conversions": lambda: [
            augment(image, generator(0, "augment", 0, n)) for n, image in enumerate(images)
        ],
        "stacking into a batch": lambda: stack(images),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=256, help="images per batch")
    parser.add_argument("--size", type=int, default=224, help="image size in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    files, size = made_up_images(options.images, options.size), options.size
    header()
    with tempfile.TemporaryDirectory() as folder:
        frame = write(Path(folder), files)
        for name, ssl in (("MMCL", False), ("MMCL+SSL", True)):
            sides = ours(Path(folder), frame, size, ssl), plain(files, size, ssl)
            rates = (rate(side, len(files), options.repeats) for side in sides)
            row(f"loader: {name} at {size} px, one core", *rates, "samples/s")
        sides = our_evaluation(Path(folder), frame, size), plain_evaluation(files, size)
        rates = (rate(side, len(files), options.repeats) for side in sides)
        row(
            f"loader: evaluation at {size} px, image and its triggered version, one core",
            *rates,
            "images/s",
        )
    mean = sum(map(len, files)) / len(files)
    print(f"mean file size {mean / 1000:.0f} kB; time per pair in this project's loader:")
    for name, function in parts(files, size).items():
        print(f"{1e3 / rate(function, len(files), options.repeats):8.3f} ms  {name}")


if __name__ == "__main__":
    main()
