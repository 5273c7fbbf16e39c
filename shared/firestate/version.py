"""The version of Firestate, said here and nowhere else: pyproject.toml takes it from this file."""

__version__ = "0.1.0"
