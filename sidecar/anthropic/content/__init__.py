"""Messages, blocks and tools become the engine's conversation."""
