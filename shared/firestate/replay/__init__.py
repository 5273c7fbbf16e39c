"""Recorded runs, as the messages that their agents would have published."""
