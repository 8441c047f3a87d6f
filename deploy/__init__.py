"""What stands around the library: the `monitoring` command, demo and embedded PostgreSQL."""
