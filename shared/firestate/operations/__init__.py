"""What operators do to what is stored: controls, the quarantine, counting states again."""
