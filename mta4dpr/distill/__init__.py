"""MTA4DPR: groups, assistants, losses, strategies, trainer, rounds."""
