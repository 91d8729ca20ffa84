"""What a collection is and where its texts come from."""
