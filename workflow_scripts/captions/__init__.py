"""Captions: tokenization, augmentation, and the WordNet database that augmentation needs."""
