"""The state of one agent as it is saved: its encoded fields, its history, what it carries over."""
