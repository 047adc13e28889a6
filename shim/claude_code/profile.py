"""How much of its prompt Claude Code is asked to send: a small window or a slow machine cannot bear all of it. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from shim import command_line
from shim.errors import USAGE, Failure
from sidecar.shared.config import CHOICES

OPTION = "--local-profile"

PATIENCE_S = 60.0
"""Seconds that the first prompt of all may take to be read. It is read once for each machine: later sessions, and other
folders, find it on disk. A minute is what people wait for something that happens once; two is where they give up."""


class Profile(NamedTuple):
    """What Claude Code is started with. The sizes were measured on Claude Code 2.1.330; a test holds them."""

    tokens: int
    """Of its first request, about, at four bytes each."""
    says: str
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}
    """Those that the user has set stay as they are."""
    yields: tuple[str, ...] = ()
    """Options of the user's in whose presence ours are left out."""


PROFILES = {
    "full": Profile(12_000, "everything"),
    "lean": Profile(
        4_500,
        "six tools; no subagents, skills or memory of its own",
        # One word, since a list of words would take the user's prompt for a tool's name.
        ("--tools=Bash,Read,Edit,Write,Grep,Glob",),
        {
            "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
            "CLAUDE_CODE_DISABLE_BUNDLED_SKILLS": "1",
            "CLAUDE_CODE_DISABLE_WORKFLOWS": "1",
        },
        ("--tools", "--bare"),
    ),
    "bare": Profile(1_000, "three tools; no CLAUDE.md, hooks, skills or plugins", ("--bare",), {}, ("--bare",)),
}
"""The largest first."""


def take(arguments: list[str], default: str) -> tuple[list[str], str]:
    """Take `--local-profile X` and `--local-profile=X` out of a command's arguments; returns what remains and the last
    X, or the default. Raises Failure."""
    rest, given = command_line.take_option(OPTION, arguments)
    name = default if given is None else given
    if name not in CHOICES["profile"]:
        raise Failure(f"{OPTION} {name}: it is one of {', '.join(CHOICES['profile'])}", USAGE)
    return rest, name


def choose(name: str, window: int, speed: int) -> str:
    """The profile that `auto` means: the largest whose first prompt leaves half of the window to work in, and that this
    machine reads within PATIENCE_S. `window`: tokens; `speed`: tokens read in a second, 0 = not measured yet."""
    if name != "auto":
        return name
    return next((each for each in PROFILES if not why_not(each, window, speed)), "bare")


def why_not(name: str, window: int, speed: int) -> str:
    """What a profile is too large for; empty when it is not."""
    tokens = PROFILES[name].tokens
    if window and 2 * tokens > window:
        return f"the window has {window:,} tokens"
    if speed and tokens > PATIENCE_S * speed:
        return f"this machine reads {speed:,} tokens a second"
    return ""


def remark(wanted: str, chosen: str, window: int, speed: int) -> str:
    """A line for the user about the profile; empty where there is nothing to say."""
    tokens = PROFILES[chosen].tokens
    if window and tokens >= window:
        return (
            f"{chosen} prompts take about {tokens:,} tokens and the window has {window:,}: Claude Code will say that "
            f"the prompt is too long. Use a model with a longer window, or {OPTION} bare"
        )
    return explained(chosen, window, speed) if wanted == "auto" and chosen != "full" else ""


def explained(name: str, window: int, speed: int) -> str:
    """A line for the user of a profile that was chosen for him."""
    profile = PROFILES[name]
    return (
        f"{name} prompts ({profile.says}), since {why_not('full', window, speed)}; "
        f"all of it: {OPTION} full, or CLAUDE_LOCAL_PROFILE=full"
    )


def arguments(name: str, given: list[str]) -> list[str]:
    """The options that go in front of the user's."""
    profile = PROFILES[name]
    taken = {word.partition("=")[0] for word in given}
    return [] if taken.intersection(profile.yields) else list(profile.arguments)


def variables(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in PROFILES[name].variables.items() if key not in environment}
