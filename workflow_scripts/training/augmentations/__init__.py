"""Augmentations of training images: one file for each, found by the name that a view gives."""
