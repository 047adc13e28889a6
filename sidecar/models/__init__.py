"""Which models can be loaded, and what fits."""
