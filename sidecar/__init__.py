"""The shared process that owns the model: one per user, started on demand, gone when idle."""

__version__ = "0.1.0"
