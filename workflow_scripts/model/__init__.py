"""CLIP models: made, loaded, and used to embed images and texts, without a loss."""
