"""What an agent's developer touches: StateManager, and the agents that it hands out."""
