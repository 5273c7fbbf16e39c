"""The side of those who publish."""
