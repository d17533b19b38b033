"""Changes of the start weights before cleaning: one file for each, found by its name."""
