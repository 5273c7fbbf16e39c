"""The shapes of messages and documents."""
