"""The loss terms: one file for each, found by its name; a file of the user's own works too."""
