"""Artefacts: values learned from a model and pairs, such as scores, patches and weights."""
