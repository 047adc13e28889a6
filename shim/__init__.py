"""The small process in front of every command: it starts the command, and a relay that holds its port and lease."""
