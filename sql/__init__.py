"""Numbered, forward-only migrations: `001_schema.sql` and those after it, applied in order."""
