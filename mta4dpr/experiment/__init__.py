"""An experiment: what was asked for, the folder it leaves, and what of it is done."""
