"""Taking over the archive of an earlier installation: its CSV files and its recordings."""
