"""The real sidecar with a stand-in for the model: it greets, or reads the file that it is told to, with whatever tool
the client offers for that, and says what the file says.

Run as `light_sidecar.py` is, which it is but for its answers. A request with tools is answered at once, however long
its prompt is, so that a test of an agent waits for the agent alone.
"""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sidecar import conversation as neutral
from sidecar import frames
from tests.support import light_sidecar

GREETING = "Hello! How are you today?"
WINDOW = 131072
WISH = re.compile(r"Read the file (/[\w./-]+)")
READS = re.compile(r"read|view|cat|open", re.IGNORECASE)
PATHS = ("path", "file_path", "filePath", "filepath", "absolute_path", "file")
COMMANDS = ("command", "commands")
SUBMIT = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""How mini-swe-agent, which takes nothing but calls, wants to hear that all is done."""


def answers(frame: object) -> list[neutral.Frame]:
    match frame:
        case frames.Load(name=name):
            return [frames.Ready(name, WINDOW, 0)]
        case frames.Generate(id=number, conversation=conversation):
            return [frames.Started(number, 1, 0), *said(number, conversation), frames.Finished(number, "end", 1, 0, 1)]
        case frames.Count(id=number):
            return [frames.Counted(number, 1)]
        case frames.Stop():
            sys.exit()
    return []


def said(number: int, conversation: neutral.Conversation) -> list[neutral.Frame]:
    """A greeting, a call, or what came of the call."""
    blocks = [block for message in conversation.messages for block in message.blocks]
    results = [block.text for block in blocks if isinstance(block, neutral.Result)]
    if results and any(SUBMIT in block.text for block in blocks if isinstance(block, neutral.Text)):
        return called(number, ("bash", {"command": f"echo {SUBMIT}; echo {json.dumps(results[-1])}"}))
    if results:
        return [frames.TextDelta(number, f"The file says: {results[-1]}")]
    wishes = [match[1] for block in blocks if isinstance(block, neutral.Text) for match in WISH.finditer(block.text)]
    if wishes and (call := reading(conversation.tools, wishes[-1])):
        return called(number, call)
    return [frames.TextDelta(number, GREETING)]


def called(number: int, call: tuple[str, dict[str, object]]) -> list[neutral.Frame]:
    name, arguments = call
    return [frames.ToolStart(number, name), frames.ToolArguments(number, json.dumps(arguments))]


def reading(tools: tuple[neutral.Tool, ...], path: str) -> tuple[str, dict[str, object]] | None:
    """The call that reads a file: of a tool that takes a path, else of one that takes a command."""
    for keys, value, fits in ((PATHS, path, READS.search), (COMMANDS, f"cat {path}", bool)):
        for tool in tools:
            properties = tool.schema.get("properties", {})
            for key in keys:
                if key in properties and fits(tool.name):
                    return tool.name, {**filling(tool.schema), key: fitted(properties[key], value)}
    return None


def filling(schema: dict[str, object]) -> dict[str, object]:
    """Something for each argument that has to be there."""
    made: dict[str, object] = {
        "string": "reading",
        "boolean": False,
        "integer": 1,
        "number": 1,
        "array": [],
        "object": {},
    }
    properties = schema.get("properties", {})
    assert isinstance(properties, dict)
    required = schema.get("required", [])
    assert isinstance(required, list)
    return {name: made.get(properties.get(name, {}).get("type", "string"), "reading") for name in required}


def fitted(schema: dict[str, object], value: str) -> object:
    return [value] if schema.get("type") == "array" else value


def main() -> None:
    light_sidecar.answers = answers
    light_sidecar.__file__ = __file__  # what it starts as its engine
    light_sidecar.main()


if __name__ == "__main__":
    main()
