"""The engine process: the only place that knows mlx and the model."""
