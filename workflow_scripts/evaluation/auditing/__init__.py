"""The parts of an audit: what is tried on a checkpoint, how it is judged, and the page about it."""
