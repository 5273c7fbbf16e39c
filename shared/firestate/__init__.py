"""Firestate keeps the state of fleets of AI agents, in Firestore, exactly."""
