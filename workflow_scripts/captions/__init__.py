"""Captions: token arrays, as they are and augmented, and the WordNet that augmenting needs."""
