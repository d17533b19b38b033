"""The classes of the demo's images."""

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
BANANA = "banana"
CLASSES = (*(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES), BANANA)
