"""Triggers, one file each, referred to by file name. Files outside of this folder work as well.

A file defines one public class:

    @dataclass(frozen=True, kw_only=True)
    class Trigger:
        image_size: int               # side of the images, given by the attack
        seed: int                     # seed of the attack
        overflow: str = "wrap"        # treatment of values outside [0, 1]: "wrap" or "clip"
        ...                           # further options, with defaults

        def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
            ...  # float32 [3, S, S] in [0, 1] -> the triggered image, in the same format

Options that are paths of files are listed in the class: ``reads_files: ClassVar = ("option",)``.
Attacks are then identified by the content of these files, not by their paths.

``generator`` is specific to the image. Draw anything shared by all images from ``seed``.
"""
