"""Checks the config and expands the experiments into runs."""
