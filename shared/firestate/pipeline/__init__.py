"""The steps of the deployed functions: read, decide, commit."""
