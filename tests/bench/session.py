"""README's picture: a session with the real program, Claude Code and the demo model, drawn as a terminal would.

`python -m tests.bench.session` writes session.svg beside this file; `--light` draws it for a light page.
"""

import argparse
import fcntl
import io
import os
import pty
import struct
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME
from rich.text import Text

from shim.claude_code import install
from sidecar.shared.config import Config
from tests.client.conftest import machine
from tests.support.home import SHIM, Home
from tests.support.waiting import wait_until

COLUMNS = 92
PLACE = Path(__file__).with_suffix(".svg")
CLAUDE = Path("~/.cache/claude-local-tests").expanduser()
"""Where the tests have their Claude Code."""

BEFORE = (
    ("--print", "Hello in 5 words"),
    ("--print", "Say exactly: seven green birds"),
    ("run", "Hello in 5 words"),
)
BESIDE = (("status",),)
"""While another terminal's prompt is being read."""
AFTER = (("bench",),)
LONG = "word " * 30_000

FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" xml:space="preserve">
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's own has a font from another server."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--out", type=Path, default=PLACE)
    options = parser.parse_args()
    with machine(grace=600) as place:
        home = Home("home", place, Path(install.claude(Config(data_dir=str(CLAUDE)))))
        console = recorded(home)
        home.close()
    theme = DEFAULT_TERMINAL_THEME if options.light else SVG_EXPORT_THEME
    options.out.write_text(
        console.export_svg(title="claude-local", theme=theme, code_format=FORMAT, unique_id="session")
    )
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


def recorded(home: Home) -> Console:
    """Everything that was typed and said."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)

    def record(*lines: tuple[str, ...]) -> None:
        for words in lines:
            console.print(Text.assemble(("$ ", "bold green"), "claude-local ", " ".join(map(quoted, words))))
            console.print(Text.from_ansi(said(home, *words)))

    record(*BEFORE)
    other = home.start("run")
    assert other.stdin is not None
    other.stdin.write(LONG.encode())
    other.stdin.close()
    wait_until(lambda: any(each["tokens_per_s"] for each in home.status()["requests"]["streams"]))
    record(*BESIDE)
    other.kill()
    wait_until(lambda: not home.status()["requests"]["running"])
    record(*AFTER)
    return console


def said(home: Home, *words: str) -> str:
    """What `claude-local WORDS` writes to a terminal, escape sequences and all."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, COLUMNS, 0, 0))
    environment = {**home.environment, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    command = [*SHIM, *words]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL, cwd=home.project, env=environment
    )
    os.close(theirs)
    text = b""
    with suppress(OSError):  # how Linux says that nobody writes any more
        while data := os.read(ours, 65536):
            text += data
    os.close(ours)
    assert process.wait() == 0, words
    return text.decode().replace("\r\n", "\n")


def quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


if __name__ == "__main__":
    main()
