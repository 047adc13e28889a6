"""Documents of strangers: their text, and what could not be read."""
