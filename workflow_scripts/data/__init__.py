"""Data preparation: URL lists and labelled images become shards, manifests and evaluation sets."""
