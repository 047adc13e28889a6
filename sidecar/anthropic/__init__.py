"""The Anthropic Messages API as pure functions: bytes to request, engine events to answer."""
