"""Models to hand on: in a format that open_clip loads, each with a card, and a check of both."""
