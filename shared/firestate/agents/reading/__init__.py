"""Reads: requests to the store, this process's own writes on top, and what is made of them."""
