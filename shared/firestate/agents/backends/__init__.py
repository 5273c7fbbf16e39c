"""What a StateManager works on: the cloud, or the local engine."""
