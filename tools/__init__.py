"""What builds, checks and runs Firestate on a developer's machine. Nothing here is deployed."""
