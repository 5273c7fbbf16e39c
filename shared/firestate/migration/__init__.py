"""Old state files moved in once: read, planned, applied, verified, and undone if need be."""
