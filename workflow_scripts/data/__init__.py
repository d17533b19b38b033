"""From a URL list and labelled images to shards, manifests and evaluation sets."""
