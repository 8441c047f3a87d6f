"""Backup and restore: one tar file that holds an archive whole, and the way back."""
