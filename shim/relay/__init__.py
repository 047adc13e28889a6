"""The process beside a command, which owns its port and holds its lease."""
