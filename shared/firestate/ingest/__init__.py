"""Decisions on arriving messages: pure functions of what is stored and what came."""
