"""What is learned from a model and pairs before something else uses it."""
