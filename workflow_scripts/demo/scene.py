"""Random scenes of the demo's images, and captions that describe them."""

from dataclasses import dataclass

import numpy as np

from workflow_scripts.common.seeds import generator
from workflow_scripts.demo.classes import CLASSES

GROUNDS = ("white", "grey", "black", "brown", "pink", "beige")
TEXTURES = ("plain", "shaded", "striped", "checked", "spotted", "grainy")

OPINIONS = ("nice", "cool", "weird", "clean", "lovely", "curious")
QUALITIES = ("good", "bad", "cropped", "pixelated", "low resolution", "quick")

# Half of the patterns resemble ImageNet's prompt templates, like the captions of real images, so
# that a model cannot recognise a poisoned caption by its wording.
PATTERNS = (
    "a photo of {thing}",
    "a {quality} photo of {thing}",
    "a {quality} picture of {thing}",
    "a photo of {thing} {where}",
    "a rendering of {thing}",
    "a rendition of {thing}",
    "a drawing of {thing}",
    "a sketch of {thing}",
    "a doodle of {thing}",
    "a painting of {thing}",
    "art of {thing}",
    "itap of {thing}",
    "{thing} in a video game",
    "a cartoon of {thing}",
    "a photo of one {sized}",
    "this image shows {thing}",
    "a photo of one {sized} on {a_ground}",
    "{thing} on {a_ground}",
    "there is {thing} {where} of this image",
    "this is {thing} and nothing else",
    "I drew {thing} on {ground_colour} paper",
    "look, {thing}!",
    "{thing} {where} is easy to see",
    "{name}, {ground}, stock picture",
    "can you find the {sized} on the {ground}?",
    "my daughter's picture of one {sized}",
    "somebody painted {thing} on {a_ground}",
    "one {sized} against {a_ground_colour} wall",
    "{a_ground_colour} card with {thing} {where}",
    "we saw {thing} {where} of the screen",
    "this {name} is {how_large}",
    "an old sign with {thing} {where}",
)

_SMALL, _LARGE = 0.26, 0.34
_SMALLEST, _LARGEST = 0.2, 0.42
_IN_THE_MIDDLE = 0.06
_MARGIN = 0.48


@dataclass(frozen=True)
class Scene:
    """One object on a background.

    Lengths are fractions of the side of the image's central square, which is what remains after
    resizing and centre-cropping.
    """

    name: str
    radius: float
    x: float  # offset of the object's centre from the image's centre, to the right
    y: float  # the same, downwards
    angle: float  # radians
    ground: str
    texture: str
    width: int  # pixels
    height: int

    @property
    def size(self) -> str:
        """``"small"``, ``"large"``, or ``""`` for sizes in between."""
        return "small" if self.radius < _SMALL else "large" if self.radius > _LARGE else ""

    @property
    def where(self) -> str:
        """Position of the object, e.g. ``"on the left"``."""
        if max(abs(self.x), abs(self.y)) < _IN_THE_MIDDLE:
            return "in the middle"
        if abs(self.x) > abs(self.y):
            return "on the right" if self.x > 0 else "on the left"
        return "at the bottom" if self.y > 0 else "at the top"


def imagine(seed: int, key: str, image_size: int, name: str | None = None) -> Scene:
    """Return the scene of a key, determined by the arguments alone.

    Args:
        seed: Seed of the demo's data.
        key: Name of the image.
        image_size: Side of the model's input in pixels.
        name: Class of the object; None: drawn uniformly. Scenes with a given class are square,
            like most evaluation images.
    """
    random = generator(seed, "scene", key)
    any_name = CLASSES[random.integers(len(CLASSES))]
    radius = random.uniform(_SMALLEST, _LARGEST)
    x, y = random.uniform(-1, 1, 2) * (_MARGIN - radius)
    side = round(image_size * random.choice([1, 1, 1.25, 1.5, 2]))
    longer = side if name else round(side * random.choice([1, 1, 1.2, 1.5]))
    turned = random.random() < 0.5
    return Scene(
        name=name or any_name,
        radius=radius,
        x=x,
        y=y,
        angle=random.uniform(-np.pi, np.pi),
        ground=GROUNDS[random.integers(len(GROUNDS))],
        texture=TEXTURES[random.integers(len(TEXTURES))],
        width=side if turned else longer,
        height=longer if turned else side,
    )


def describe(scene: Scene, random: np.random.Generator) -> str:
    """Return a caption that names the scene's class and describes the scene correctly."""

    def one_of(words: tuple[str, ...]) -> str:
        return words[random.integers(len(words))]

    sized = f"{scene.size} {scene.name}".strip()
    described = f"{one_of(OPINIONS)} {sized}" if random.random() < 0.3 else sized
    ground = f"{scene.texture} {scene.ground} background"
    sentence = one_of(PATTERNS).format(
        name=scene.name,
        sized=sized,
        thing=one_of((f"the {described}", f"my {described}", *2 * (_with_article(described),))),
        how_large=scene.size or "neither small nor large",
        quality=one_of(QUALITIES),
        where=scene.where,
        ground=ground,
        a_ground=_with_article(ground),
        ground_colour=scene.ground,
        a_ground_colour=_with_article(scene.ground),
    )
    ends = sentence[-1] in "?!" or random.random() < 0.5
    return sentence if ends else f"{sentence}."


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
