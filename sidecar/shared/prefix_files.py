"""The names of the files that hold prefixes on disk."""

import re

NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})-([0-9a-f]{8})\.(block|state)\.safetensors")
"""The node, its parent, the checksum, and whether it has tokens or is a mark."""
FOLDER = re.compile(r"[0-9a-f]{32}")
FOLDERS = "[0-9a-f]" * 32
"""The same as a shell has it."""
ABOUT = "about.json"
"""For people and `claude-local cache`: whose folder it is."""
