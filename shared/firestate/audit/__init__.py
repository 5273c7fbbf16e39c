"""Counting once more, by code of its own, and repairing what is off."""
