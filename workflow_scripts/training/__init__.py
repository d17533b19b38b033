"""The trainer, used for both pre-training and cleaning."""
