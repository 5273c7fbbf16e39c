"""The local engine: the whole pipeline in one process, over a SQLite file or memory."""
