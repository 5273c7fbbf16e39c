"""Carrying a plan out: decide what becomes of each record, commit, keep the progress."""
