"""What a request may hold: its fields, their types and rules."""
