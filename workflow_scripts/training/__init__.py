"""One trainer for pre-training and cleaning, and the evaluation that both share."""
