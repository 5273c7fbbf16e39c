"""What is counted: pure functions from documents to sums."""
