"""What a run needs and takes, said before it starts: what is brought from elsewhere, how large it is, and what each stage costs."""
