"""What is to be run: the config checked, and the experiments expanded into runs."""
