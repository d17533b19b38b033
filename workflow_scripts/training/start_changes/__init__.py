"""Modifications of the start model's weights before cleaning, one file each.

A module may define what its defence knows besides clean pairs, e.g. ``KNOWS = ("clean model",)``.
"""
