"""From the bytes of an old file to records, whatever its format."""
