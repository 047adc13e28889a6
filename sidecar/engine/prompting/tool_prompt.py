"""Tools and answer formats in words, for templates that know none. Pure."""

import json
from typing import Any

from sidecar.conversation import Call, Tool
from sidecar.engine.structured_output.call_format import OURS


def definition(tool: Tool) -> dict[str, Any]:
    """A tool as chat templates take it."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": function}


def describe(tools: list[Tool]) -> str:
    """The tools in words, for templates that know none. The call format is the most widely trained one."""
    listed = "\n".join(json.dumps(definition(tool)["function"], ensure_ascii=False) for tool in tools)
    example = OURS.render(Call("", "function name", {"parameter": "value"}))
    return (
        "# Tools\nYou can call these functions; each line describes one, its parameters as JSON Schema:\n"
        f"{listed}\n\nTo call one, write exactly this, and nothing after the last call:\n{example}\n"
        "The result comes back between <tool_response> and </tool_response>. Never invent a result."
    )


def describe_answer(schema: dict[str, Any]) -> str:
    """What the answer has to be like."""
    return (
        "# Answer\nAnswer with JSON alone, without any other words, that this JSON Schema accepts:\n"
        f"{json.dumps(schema, ensure_ascii=False)}"
    )
