"""Prefixes that have been read: in memory, on disk, for each folder."""
