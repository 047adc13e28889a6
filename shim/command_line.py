"""What the command line means: a word of ours, or a command. Pure; it looks at nothing but the words."""

OURS = {
    "status": "what runs: model, memory, terminals",
    "run": "one answer, or a chat, without any client",
    "bench": "how fast this machine reads and writes",
    "models": "which there are, which fit; show, pull, use, rm",
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
command. One file or folder in `shim/commands` for each."""

CLAUDE = "claude"
"""The command when none is named."""

ANYWAY = "--local-anyway"
"""Before a command: run an agent as it is, whomever it asks."""
ALONE = {"--help": "help", "-h": "help", "--version": "version"}
"""Options that are ours when nothing else is said: who asks a fresh machine for help must not get an installation."""

ELSEWHERE = {
    "list": "claude-local models lists the models",
    "pull": "claude-local models pull NAME fetches a model",
    "show": "claude-local models show NAME says what is known of a model",
    "load": "a model is loaded with its first request, and claude-local models use NAME makes one the default",
    "unload": "claude-local stop takes the model out of memory",
    "ps": "claude-local status shows what is in memory",
    "chat": "claude-local run is a chat",
    "login": "claude-local needs no account",
    "signin": "claude-local needs no account",
    "start": "claude-local starts by itself, with the first command",
}
"""First words of other programs for local models, and what says the same here. A program of that name is run all the
same, since the prefix is for any command."""


def split(arguments: list[str]) -> tuple[str, list[str]]:
    """Returns (word of ours, its arguments) or ("", the command and its arguments).

    No command, or an option in its place, means Claude Code: `claude-local --print "hi"`.
    """
    if not arguments:
        return "", [CLAUDE]
    first, rest = arguments[0], arguments[1:]
    if first in ALONE and not rest:
        return ALONE[first], []
    if first == "--":
        return "", rest or [CLAUDE]
    if first.startswith("-"):
        return "", [CLAUDE, *arguments]
    if first in OURS:
        return first, rest
    return "", arguments


def hint(word: str) -> str:
    """What the user may have meant by a command that is not there; empty when nothing is known."""
    if word in ELSEWHERE:
        return ELSEWHERE[word]
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), OURS, 1, cutoff=0.7)
    return f"did you mean claude-local {near[0]}?" if near else ""


def take_option(option: str, arguments: list[str]) -> tuple[list[str], str | None]:
    """Take `OPTION X` and `OPTION=X` out, as far as `--`; returns what remains and the last X, empty where it is left
    out."""
    rest: list[str] = []
    given = None
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += [word, *queue]
            break
        if word == option:
            given = queue.pop(0) if queue else ""
        elif word.startswith(f"{option}="):
            given = word.removeprefix(f"{option}=")
        else:
            rest.append(word)
    return rest, given
