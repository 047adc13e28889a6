"""What Claude Code is started with."""
