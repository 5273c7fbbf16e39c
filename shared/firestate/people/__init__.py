"""The people who sign in to look, and to operate."""
