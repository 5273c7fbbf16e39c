"""Roles of the people who sign in."""
