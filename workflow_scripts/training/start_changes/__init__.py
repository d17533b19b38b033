"""Modifications of the start model's weights before cleaning, one file each."""
