"""A request of the Messages API on its way to the engine and back."""
