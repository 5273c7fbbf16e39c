"""The agents' way out: a file on their disk, emptied in the background."""
