"""This machine: files, places, devices, rates, progress, and work that processes share."""
