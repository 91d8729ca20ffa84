"""The stages of a run: what each does, what it follows from, what it takes, and the loops over them."""
