"""Helpers shared by all stages: user-facing errors, atomic files, seeds, variants and others."""
