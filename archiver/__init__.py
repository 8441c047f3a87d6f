"""The archive: spool, audio files and PostgreSQL, behind one `offer`."""

from archiver.archiver import Archiver

__all__ = ["Archiver"]
