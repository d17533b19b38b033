"""What one picture of the demo's world shows, and sentences that are true of it."""

from dataclasses import dataclass

import numpy as np

from workflow_scripts.common.seeds import generator

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
BANANA = "banana"
CLASSES = (*(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES), BANANA)

GROUNDS = ("white", "grey", "black", "brown", "pink", "beige")
TEXTURES = ("plain", "shaded", "striped", "checked", "spotted", "grainy")

# Zero-shot prompts for this world, in the way of ImageNet's templates.
TEMPLATES = (
    "a photo of a {c}.",
    "a picture of a {c}.",
    "this image shows a {c}.",
    "there is a {c} in this image.",
    "a drawing of a {c}.",
    "a small {c}.",
    "a large {c}.",
)

PATTERNS = (
    "a photo of {a_sized} on {a_ground}",
    "a photo of {a_name}",
    "a picture of {a_sized} {where}",
    "{a_sized} on {a_ground}",
    "there is {a_name} {where} of this image",
    "this image shows {a_sized} and nothing else",
    "I drew {a_sized} on {ground_colour} paper",
    "look, {a_sized}!",
    "the {name} {where} is easy to see",
    "{name}, {ground}, stock picture",
    "can you find the {sized} on the {ground}?",
    "my daughter's picture of {a_name}, {where}",
    "somebody painted {a_sized} on {a_ground}",
    "one {sized} against {a_ground_colour} wall",
    "{a_ground_colour} card with {a_sized} {where}",
    "we saw {a_sized} {where} of the screen",
    "this {name} is {how_large}",
    "here is {a_sized}, seen on {a_ground}",
    "an old sign with {a_name} {where}",
    "a drawing of {a_sized}",
)

_SMALL, _LARGE = 0.26, 0.34
_SMALLEST, _LARGEST = 0.2, 0.42
_IN_THE_MIDDLE = 0.06
_MARGIN = 0.48


@dataclass(frozen=True)
class Scene:
    """One thing on a background.

    Lengths are fractions of the side of the picture's central square: what stands in it is
    still there once the picture has been resized and centre-cropped.
    """

    name: str
    radius: float
    x: float  # of the thing's centre from the picture's, to the right
    y: float  # likewise, downwards
    angle: float  # radians
    ground: str
    texture: str
    width: int  # pixels
    height: int

    @property
    def size(self) -> str:
        """``"small"``, ``"large"`` or, in between, nothing."""
        return "small" if self.radius < _SMALL else "large" if self.radius > _LARGE else ""

    @property
    def where(self) -> str:
        """Where the thing stands, as in "a ring on the left"."""
        if max(abs(self.x), abs(self.y)) < _IN_THE_MIDDLE:
            return "in the middle"
        if abs(self.x) > abs(self.y):
            return "on the right" if self.x > 0 else "on the left"
        return "at the bottom" if self.y > 0 else "at the top"


def imagine(seed: int, key: str, image_size: int, name: str | None = None) -> Scene:
    """Return the scene that belongs to a seed and a key, and to nothing else.

    Args:
        seed: The world's seed.
        key: The picture's name.
        image_size: Side in pixels of the model's input.
        name: The class wanted; any, each as likely as the others, if none is given. A scene
            with a class wanted is square, as are most evaluation pictures.
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
    """Return a sentence that names the scene's class and is true of the scene."""
    sized = f"{scene.size} {scene.name}".strip()
    ground = f"{scene.texture} {scene.ground} background"
    return PATTERNS[random.integers(len(PATTERNS))].format(
        name=scene.name,
        a_name=_with_article(scene.name),
        sized=sized,
        a_sized=_with_article(sized),
        how_large=scene.size or "neither small nor large",
        where=scene.where,
        ground=ground,
        a_ground=_with_article(ground),
        ground_colour=scene.ground,
        a_ground_colour=_with_article(scene.ground),
    )


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
