"""Augmentations of training images, one file each; views refer to them by file name."""
