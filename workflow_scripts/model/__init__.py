"""CLIP models: creating and loading them, and embedding images and texts."""
