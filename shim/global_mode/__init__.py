"""Global mode: one port that stands for every terminal, and the user's settings that point Claude Code at it."""
