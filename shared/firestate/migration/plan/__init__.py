"""The plan of a migration: made, kept, read again; nothing is stored yet."""
