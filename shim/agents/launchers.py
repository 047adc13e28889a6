"""Which program a command line means in the end: `env A=b X`, `npx X`, `uvx X`, `node …/bin/X`, `python -m X`.

Only what is certain is looked through: with an option that is not listed here, a line means its first word. Pure.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple


class Found(NamedTuple):
    """A program in a command line."""

    word: str
    at: int
    """Its index: the program's own arguments follow."""
    kind: str = "command"
    """What the word is: a `command`, a `package`, a `script` or a `module`."""
    drops: str = ""
    """The launcher that keeps our variables from it."""


class Launcher(NamedTuple):
    """How a program that starts another one reads its own arguments."""

    flags: tuple[str, ...] = ()
    valued: tuple[str, ...] = ()
    """Options with a value: in the next word, behind `=`, or, where they are one letter, right behind it."""
    words: tuple[tuple[str, ...], ...] = ((),)
    """What it begins with when it starts a program: one of these."""
    places: int = 0
    """Arguments of its own before the program."""
    assigns: bool = False
    """Whether `A=b` may stand before the program."""
    drops: tuple[str, ...] = ()
    """Options with which it takes variables away; `*` = it does so without any."""
    kind: str = "command"


NPX = Launcher(("-y", "--yes", "-q", "--quiet", "--prefer-offline", "--"), ("-p", "--package"), kind="package")
UVX = Launcher(
    ("-q", "--quiet", "--isolated", "--refresh", "--offline"), ("--from", "--with", "-p", "--python"), kind="package"
)
NODE = Launcher(("--no-warnings", "--enable-source-maps", "--no-deprecation"), kind="script")
PYTHON = Launcher(("-I", "-B", "-E", "-s", "-S", "-u", "-O", "-P"), ("-X", "-W"), kind="script")

LAUNCHERS: Mapping[str, Launcher] = {
    "env": Launcher(
        ("-i", "-", "--ignore-environment", "-v", "--debug", "--"),
        ("-u", "--unset", "-C", "--chdir"),
        assigns=True,
        drops=("-i", "-", "--ignore-environment", "-u", "--unset"),
    ),
    "sudo": Launcher(
        ("-E", "--preserve-env", "-H", "--set-home", "-n", "--non-interactive", "-i", "--login", "-S", "-b", "--"),
        ("-u", "--user", "-g", "--group", "-p", "--prompt", "-D", "--chdir"),
        assigns=True,
        drops=("*",),
    ),
    "doas": Launcher(("-n", "--"), ("-u", "-C"), drops=("*",)),
    "nohup": Launcher(("--",)),
    "setsid": Launcher(("-c", "-f", "-w", "--ctty", "--fork", "--wait", "--")),
    "nice": Launcher(("--",), ("-n", "--adjustment")),
    "timeout": Launcher(
        ("--foreground", "-v", "--verbose", "--preserve-status", "--"),
        ("-k", "--kill-after", "-s", "--signal"),
        places=1,
    ),
    "time": Launcher(("-p", "-v", "--")),
    "caffeinate": Launcher(("-d", "-i", "-m", "-s", "-u"), ("-t",)),
    "npx": NPX,
    "pnpx": NPX,
    "npm": NPX._replace(words=(("exec", "--"), ("x", "--"))),
    "pnpm": NPX._replace(words=(("dlx",), ("exec",))),
    "yarn": NPX._replace(words=(("dlx",), ("exec",))),
    "bunx": Launcher(("--bun", "--silent"), ("-p", "--package"), kind="package"),
    "bun": Launcher(("--bun", "--silent"), ("-p", "--package"), words=(("x",),), kind="package"),
    "uvx": UVX,
    "uv": UVX._replace(words=(("tool", "run"), ("run",))),
    "pipx": Launcher(("-q", "--quiet", "--no-cache"), ("--spec", "--python"), words=(("run",),), kind="package"),
    "node": NODE,
    "nodejs": NODE,
    "bun-node": NODE,
    "python": PYTHON,
}


def look_through(words: list[str]) -> Found:
    """The program that a command line starts in the end, as far as that is certain."""
    found = Found(words[0], 0)
    while found.kind == "command" and (launcher := _launcher(found.word)):
        inner = _inside(launcher, words, found)
        if inner is None:
            break
        found = inner
    return found


def _launcher(word: str) -> Launcher | None:
    name = os.path.basename(word)
    if name.startswith("python") and not name.strip("python.0123456789"):
        name = "python"
    return LAUNCHERS.get(name)


def _inside(launcher: Launcher, words: list[str], outer: Found) -> Found | None:
    """What the launcher at `outer` starts; None where that is not certain."""
    begins = [each for each in launcher.words if tuple(words[outer.at + 1 : outer.at + 1 + len(each)]) == each]
    if not begins:
        return None
    at = outer.at + 1 + len(begins[0])
    drops = "*" in launcher.drops
    places = launcher.places
    while at < len(words):
        word = words[at]
        option = word.partition("=")[0] if word.startswith("--") and word != "--" else word
        if word == "-m" and launcher is PYTHON:
            return Found(words[at + 1], at + 1, "module", outer.drops) if at + 1 < len(words) else None
        if option in launcher.flags:
            at += 1
        elif option in launcher.valued:
            at += 1 if option != word else 2
        elif word[:2] in launcher.valued and len(word) > 2:
            option, at = word[:2], at + 1
        elif word.startswith("-"):
            return None
        elif launcher.assigns and "=" in word:
            at += 1
        elif places:
            places, at = places - 1, at + 1
        else:
            dropped = os.path.basename(outer.word) if drops else ""
            return Found(word, at, launcher.kind, outer.drops or dropped)
        drops = drops or option in launcher.drops
    return None


def package(word: str) -> str:
    """A package without its version and extras: `@a/b@1.2`, `a[b]==1.2`, `a@latest`."""
    scope, name = ("@", word[1:]) if word.startswith("@") else ("", word)
    for mark in ("@", "=", "[", ">", "<", "~"):
        name = name.partition(mark)[0]
    return f"{scope}{name}"


def of_path(path: str) -> str:
    """The package that a file belongs to, where its path says so; otherwise the file's name."""
    parts = path.split("/")
    if "node_modules" in parts[:-2]:
        at = len(parts) - parts[::-1].index("node_modules")
        return "/".join(parts[at : at + 2]) if parts[at].startswith("@") else parts[at]
    return parts[-1]
