"""What each command does: one file a command, which returns a document and prints nothing."""
