"""When the engine runs, and with what."""
