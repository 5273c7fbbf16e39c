"""An agent's memory: pure folds of rows and events."""
