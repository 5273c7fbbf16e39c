"""From agent frameworks: what their agents do, as states and events of Firestate."""
