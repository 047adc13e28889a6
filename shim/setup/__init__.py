"""The Python environment of a checkout."""
