"""Kinds of figures: each module has ``draw(metrics, **options) -> Figure``; ``_`` ones help."""
