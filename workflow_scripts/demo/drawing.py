"""Rendering of scenes: outlines are drawn at four times the size and averaged (antialiasing)."""

import numpy as np
from PIL import Image, ImageDraw

from workflow_scripts.demo.classes import BANANA
from workflow_scripts.demo.scene import Scene

_RGB = {
    "red": (208, 32, 38),
    "orange": (246, 132, 22),
    "yellow": (246, 222, 45),
    "green": (38, 148, 62),
    "blue": (38, 78, 212),
    "purple": (132, 46, 168),
    "white": (238, 238, 238),
    "grey": (148, 148, 148),
    "black": (28, 28, 28),
    "brown": (112, 78, 54),
    "pink": (240, 186, 202),
    "beige": (222, 206, 170),
    "banana": (250, 214, 40),
    "banana's ridge": (206, 160, 22),
    "banana's tip": (84, 58, 28),
}
_FINER = 4
_UPRIGHT = 0.6  # maximum rotation of a shape in radians

Outline = np.ndarray
Layer = tuple[str, Outline, Outline | None]


def draw(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Render a scene as uint8 ``[height, width, 3]``; ``random`` determines shades and noise."""
    picture = _background(scene, random)
    jitter = random.normal(0, 9, 3)
    for colour, outline, hole in _layers(scene):
        coverage = _coverage(scene, outline, hole)[..., None]
        picture += coverage * (np.array(_RGB[colour]) + jitter - picture)
    picture *= random.uniform(0.85, 1.1)
    picture += random.normal(0, random.uniform(1, 7), picture.shape)
    return picture.clip(0, 255).astype(np.uint8)


def _background(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Return float ``[height, width, 3]``: the background colour modulated by a texture."""
    y, x = np.mgrid[: scene.height, : scene.width] / min(scene.height, scene.width)
    angle, phase = random.uniform(0, np.pi), random.uniform(0, 1, 2)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    waves = random.uniform(4, 7)
    first, second = np.sin(2 * np.pi * (waves * np.array([along, across]) + phase[:, None, None]))
    pattern = {
        "plain": lambda: np.zeros_like(x),
        "shaded": lambda: 2 * (along - along.mean()),
        "striped": lambda: np.sign(first),
        "checked": lambda: np.sign(first * second),
        "spotted": lambda: np.where(first + second > 0.9, 1.5, -0.3),
        "grainy": lambda: random.normal(0, 0.9, x.shape),
    }[scene.texture]()
    ground = np.array(_RGB[scene.ground]) + random.normal(0, 6, 3)
    return ground + 22 * pattern[..., None]


def _coverage(scene: Scene, outline: Outline, hole: Outline | None) -> np.ndarray:
    """Return float ``[height, width]``: the share of each pixel inside the outline."""
    side = min(scene.width, scene.height) * _FINER
    turn = scene.angle if scene.name == BANANA else scene.angle / np.pi * _UPRIGHT
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = np.array([scene.width, scene.height]) * _FINER / 2 + side * np.array(
        [scene.x, scene.y]
    )
    mask = Image.new("L", (scene.width * _FINER, scene.height * _FINER))
    brush = ImageDraw.Draw(mask)
    for corners, inside in ((outline, 255), (hole, 0)):
        if corners is not None:
            at = centre + side * scene.radius * corners @ turned
            brush.polygon(at.ravel().tolist(), fill=inside)
    return np.asarray(mask.reduce(_FINER), dtype=float) / 255


def _layers(scene: Scene) -> list[Layer]:
    if scene.name == BANANA:
        return _BANANA
    colour, shape = scene.name.split()
    outline, hole = _SHAPES[shape]
    return [(colour, outline, hole)]


def _polygon(corners: int, *radii: float) -> Outline:
    """Return ``[corners, 2]``, the first corner at the top; several radii alternate."""
    angles = 2 * np.pi * np.arange(corners) / corners
    radius = np.resize(radii or (1.0,), corners)
    return np.stack([radius * np.sin(angles), -radius * np.cos(angles)], axis=1)


def _cross(arm: float = 0.3) -> Outline:
    quarter = np.array([(arm, -arm), (arm, -0.98), (-arm, -0.98)])
    turns = [np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
             for t in np.arange(4) * np.pi / 2]  # fmt: skip
    return np.concatenate([quarter @ turn for turn in turns])


def _crescent(start: float, end: float, inner: float, outer: float) -> Outline:
    """Return the outline of a part of a banana.

    ``start`` and ``end`` are positions along the banana, from -1 to 1; ``inner`` and ``outer``
    are positions across it, from -1 (the concave side) to 1.
    """
    along = np.linspace(start, end, 24)
    thickness = 0.37 * np.sqrt(np.clip(1 - np.abs(along) ** 3, 0, 1)) + 0.06
    edges = []
    for side, way in ((outer, 1), (inner, -1)):
        reach = 1.0 + side * thickness
        bend = along * 1.05
        edges.append(np.stack([reach * np.sin(bend), reach * np.cos(bend) - 0.9], axis=1)[::way])
    return np.concatenate(edges)


_SHAPES: dict[str, tuple[Outline, Outline | None]] = {
    "circle": (_polygon(48, 0.92), None),
    "square": (_polygon(4) @ (np.array([[1, 1], [-1, 1]]) / np.sqrt(2)), None),
    "triangle": (_polygon(3), None),
    "star": (_polygon(10, 1.0, 0.42), None),
    "cross": (_cross(), None),
    "ring": (_polygon(48, 0.95), _polygon(48, 0.5)),
}
_BANANA: list[Layer] = [
    ("banana", _crescent(-0.94, 0.94, -1.0, 1.0), None),
    ("banana's ridge", _crescent(-0.7, 0.7, 0.35, 0.55), None),
    ("banana's tip", _crescent(-1.0, -0.84, -1.0, 1.0), None),
    ("banana's tip", _crescent(0.9, 1.12, -1.0, 1.0), None),
]
