"""After a migration: compare what is stored with its sources, keep receipts, undo."""
