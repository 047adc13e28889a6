"""The tools that the API defines by a type alone and the client runs: what a model must know to call them."""

from typing import Any

from sidecar.conversation import Tool

_PATH = {"type": "string", "description": "Absolute path."}
_VIEW_RANGE = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
_EDITING: dict[str, dict[str, Any]] = {
    "view": {"path": _PATH, "view_range": _VIEW_RANGE},
    "create": {"path": _PATH, "file_text": {"type": "string"}},
    "str_replace": {"path": _PATH, "old_str": {"type": "string"}, "new_str": {"type": "string"}},
    "insert": {"path": _PATH, "insert_line": {"type": "integer"}, "insert_text": {"type": "string"}},
}
_MEMORY: dict[str, dict[str, Any]] = _EDITING | {
    "delete": {"path": _PATH},
    "rename": {"old_path": _PATH, "new_path": _PATH},
}
_OPTIONAL = {"view_range", "new_str"}


def built_in(type_: str, name: str) -> Tool | None:
    """The tool of a type such as `bash_20250124`; None for one that is not known or not the client's to run."""
    if type_.startswith("bash_"):
        schema = {"type": "object", "properties": {"command": {"type": "string"}, "restart": {"type": "boolean"}}}
        return Tool(name, "Run a command in a bash session that lasts; or restart the session.", schema)
    if type_.startswith("text_editor_"):
        return Tool(name, "View, create and edit files.", _commands(_EDITING))
    if type_.startswith("memory_"):
        return Tool(name, "Keep notes as files under /memories, for later conversations.", _commands(_MEMORY))
    return None


def _commands(commands: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One variant for each command, so that each has exactly its own parameters."""
    return {
        "type": "object",
        "anyOf": [
            {
                "type": "object",
                "properties": {"command": {"const": command}, **parameters},
                "required": ["command", *(name for name in parameters if name not in _OPTIONAL)],
                "additionalProperties": False,
            }
            for command, parameters in commands.items()
        ],
    }
