"""The triggers: one file for each, found by its name; a file of the user's own works too.

A file has one public class:

    @dataclass(frozen=True, kw_only=True)
    class Trigger:
        image_size: int               # side of the images, given by the attack
        seed: int                     # of the attack
        overflow: str = "wrap"        # what becomes of values beyond [0, 1]: "wrap" or "clip"
        ...                           # options of its own, with their defaults

        def __call__(self, image: Tensor, generator: np.random.Generator) -> Tensor:
            ...  # float32 [3, S, S] in [0, 1] -> the triggered image, the same

A class whose options are paths of files names these: ``reads_files: ClassVar = ("option",)``. Its
attacks are identified by the content of the files, not by their paths.

``generator`` is the image's own. What is the same for all images is drawn from ``seed``.
"""
