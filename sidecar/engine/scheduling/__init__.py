"""Which request does what in the next step."""
