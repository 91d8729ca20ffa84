"""Encoders and where they are found."""
