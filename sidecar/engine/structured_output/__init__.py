"""What a model may write, and what it has written."""
