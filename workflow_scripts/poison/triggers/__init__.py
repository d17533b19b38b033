"""One file for each trigger, found by its name; a file of your own is given by its path."""
