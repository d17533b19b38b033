"""From a clean manifest to a poisoned one, and to the clean split; all that triggers images."""
