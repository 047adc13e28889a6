"""The tools that conversations offer: for files, commands, subagents and plans, others that must not confuse."""

import random
from dataclasses import dataclass
from typing import Any

from sidecar.demo.training.words import Pool, nonsense

Tool = dict[str, Any]

_READ_VERBS = ("read", "open", "view", "cat", "load", "show", "get", "fetch", "display")
_READ_NOUNS = ("", "_file", "File", "-file", "_text", "_document", "_path", "Contents")
_READ_PARAMETERS = ("path", "file_path", "filename", "file", "filepath", "file_name", "target_file", "name")
_RUN_NAMES = (
    "bash",
    "shell",
    "terminal",
    "run",
    "run_command",
    "execute",
    "exec",
    "execute_command",
    "run_shell",
    "sh",
    "cmd",
    "command",
    "run_bash",
    "shell_exec",
    "run_in_terminal",
    "RunCommand",
    "Shell",
    "Terminal",
    "Execute",
    "run_shell_command",
    "console",
)
_RUN_PARAMETERS = ("command", "cmd", "command_line", "script", "commandline", "shell_command")
_OTHERS = (
    ("Glob", "pattern"),
    ("Grep", "pattern"),
    ("WebFetch", "url"),
    ("WebSearch", "query"),
    ("Skill", "skill"),
    ("TodoWrite", "todos"),
    ("BashOutput", "bash_id"),
    ("KillShell", "shell_id"),
    ("TaskOutput", "task_id"),
    ("TaskStop", "task_id"),
    ("list_dir", "path"),
    ("delete_file", "path"),
    ("stat", "path"),
    ("search", "query"),
    ("get_weather", "city"),
    ("calculate", "expression"),
    ("translate", "text"),
    ("send_mail", "to"),
    ("Sleep", "seconds"),
    ("get_time", "timezone"),
    ("lookup", "name"),
    ("remember", "fact"),
)


_PLANNERS: tuple[tuple[tuple[str, ...] | None, tuple[str, ...] | None], ...] = (
    (("query", "max_results"), ()),
    (("query", "max_results"), None),
    (None, ("plan",)),
    (("query",), ()),
    (None, None),
)


@dataclass(frozen=True, slots=True)
class Kit:
    """What is offered; `reader` and `runner` are (tool name, parameter name), `agent` has several parameters.

    `search` and `leave` are the parameters of the tools that find the way out of plan mode and that go it.
    """

    definitions: tuple[Tool, ...] = ()
    reader: tuple[str, str] | None = None
    runner: tuple[str, str] | None = None
    agent: tuple[str, tuple[str, ...]] | None = None
    search: tuple[str, ...] | None = None
    leave: tuple[str, ...] | None = None


def kit(pool: Pool, rng: random.Random, read: bool, run: bool, others: int) -> Kit:
    """A kit with the given members, in random order, among tools that need several parameters or none."""
    reader = _reader(pool, rng) if read else None
    runner = _runner(pool, rng) if run else None
    taken = [tool for tool in (reader, runner) if tool]
    taken += rng.sample([other for other in _OTHERS if other[0] not in dict(taken)], min(others, len(_OTHERS)))
    if others and rng.random() < 0.3:
        taken.append((rng.choice(pool.words), rng.choice(pool.words)))
    definitions = [_definition(pool, rng, name, [parameter]) for name, parameter in taken]
    agent = _agent(rng) if taken and rng.random() < 0.4 else None
    if agent:
        extra = rng.sample(("model", "effort", "isolation"), rng.randint(0, 2))
        definitions.append(_definition(pool, rng, agent[0], ["description", "prompt"], [*agent[1][2:], *extra]))
    search, leave = rng.choices(_PLANNERS, (4, 2, 3, 1, 10))[0] if taken else (None, None)
    for name, parameters in (("ToolSearch", search), ("ExitPlanMode", leave)):
        if parameters is not None:
            definitions.append(_definition(pool, rng, name, list(parameters)))
    for _ in range(rng.choice((0, 0, 0, 1, 3)) if taken else 0):
        needs = rng.sample(pool.words, rng.choice((0, 2, 3)))
        definitions.append(
            _definition(pool, rng, rng.choice(("Edit", "Write", nonsense(rng), rng.choice(pool.words))), needs)
        )
    rng.shuffle(definitions)
    return Kit(tuple(definitions), reader, runner, agent, search, leave)


def _reader(pool: Pool, rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.5:
        return "Read", "file_path"
    name = rng.choice(_READ_VERBS) + rng.choice(_READ_NOUNS)
    return _dressed(pool, rng, name), rng.choice(_READ_PARAMETERS)


def _runner(pool: Pool, rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.5:
        return "Bash", "command"
    return _dressed(pool, rng, rng.choice(_RUN_NAMES)), rng.choice(_RUN_PARAMETERS)


def _agent(rng: random.Random) -> tuple[str, tuple[str, ...]]:
    name = rng.choice(("Agent", "Agent", "Agent", "Task", "Task", "subagent", "spawn_agent", "delegate"))
    optional = rng.choice((("subagent_type",), ("subagent_type", "run_in_background"), ()))
    return name, ("description", "prompt", *optional)


def _dressed(pool: Pool, rng: random.Random, name: str) -> str:
    """The name as some server would write it."""
    word = rng.choice(pool.words)
    return rng.choice(
        (
            name,
            name,
            name,
            name,
            name.capitalize(),
            f"mcp__{word}__{name}",
            f"mcp__fs__{name}",
            f"{word}_{name}",
            f"fs_{name}",
        )
    )


def _definition(
    pool: Pool, rng: random.Random, name: str, required: list[str], optional: list[str] | None = None
) -> Tool:
    """A definition as clients send it, with optional parameters at times and sometimes no list of required ones."""
    if optional is None:
        optional = rng.sample(pool.words, rng.choice((0, 0, 1, 2)))
    names = [*required, *optional]
    properties = {
        name: {"type": "string" if name in required else rng.choice(("string", "number", "boolean"))} for name in names
    }
    for key in names:
        if rng.random() < 0.4:
            properties[key]["description"] = pool.sentence(rng)[:60]
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    description = pool.sentence(rng)[: rng.choice((30, 80, 160))]
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
