"""What the command line means: a word of ours, or a command. Pure; it looks at nothing but the words."""

OURS = {
    "status": "what runs: model, memory, terminals",
    "run": "one answer on stdout, without any client",
    "bench": "how fast this machine reads and writes",
    "models": "which there are and which fit; pull, use, rm",
    "config": "each setting, its value, and where it comes from",
    "logs": "what sidecar, engine and relays have logged",
    "cache": "what has been read and lies on disk",
    "doctor": "what is wrong here, and how to put it right",
    "stop": "end it, after the running answers",
    "global": "every terminal's claude goes here, until off",
    "serve": "the model at a fixed port, each request shown",
    "uninstall": "remove all that claude-local has put on this disk",
    "completions": "completion of words and commands, for a shell",
    "version": "the version of claude-local",
    "help": "this text, or a word's own",
}
"""The words that come before any command of the same name, and what each does; `claude-local -- NAME` reaches the
command. One file in `shim/verbs` for each."""

CLAUDE = "claude"
"""The command when none is named."""

ANYWAY = "--local-anyway"
"""Before a command: run an agent as it is, whomever it asks."""


def split(arguments: list[str]) -> tuple[str, list[str]]:
    """Returns (word of ours, its arguments) or ("", the command and its arguments).

    No command, or an option in its place, means Claude Code: `claude-local --print "hi"`.
    """
    if not arguments:
        return "", [CLAUDE]
    first, rest = arguments[0], arguments[1:]
    if first == "--":
        return "", rest or [CLAUDE]
    if first.startswith("-"):
        return "", [CLAUDE, *arguments]
    if first in OURS:
        return first, rest
    return "", arguments


def resembles_ours(word: str) -> bool:
    """Whether a missing command may be one of our words, mistyped."""
    from difflib import get_close_matches

    return bool(get_close_matches(word.lower(), OURS, cutoff=0.7))
