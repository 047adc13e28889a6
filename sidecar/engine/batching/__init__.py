"""Rows that share a pass."""
