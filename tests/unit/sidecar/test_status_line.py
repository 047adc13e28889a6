"""The line that a terminal shows of itself, and how a shell comes by it."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from shim.claude_code import status_line
from sidecar.conversation import Priority
from sidecar.frames import Live, Queued
from sidecar.server.status_line import Facts, told

IDLE = Facts("mlx-community/some-model", "ready", (), (), 0, 0.0, "Safe", 3.25)
READING = Live(1, Priority.MAIN, 21_989, 5_497, 0, 766.0)
WRITING = Live(2, Priority.SIDE, 500, 500, 12, 34.4)
WAITING = Queued(Priority.MAIN, 9000, 3.0, 75.2, 3)


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (IDLE, "local: some-model, memory safe, 3.2 GB free"),
        (replace(IDLE, speed=34.4, level="Caution"), "local: some-model, 34 tokens/s, memory caution, 3.2 GB free"),
        (replace(IDLE, streams=(READING,)), "local: reading 24 % of 21,989 tokens, 766/s, 22 s left"),
        (replace(IDLE, streams=(WRITING,)), "local: writing, 34 tokens/s"),
        (
            replace(IDLE, streams=(WRITING, READING)),
            "local: reading 24 % of 21,989 tokens, 766/s, 22 s left (and 1 more)",
        ),
        (replace(IDLE, queue=(WAITING,)), "local: waiting for others, first word in about 1 min 15 s"),
        (replace(IDLE, running=1), "local: some-model prepares the prompt"),
        (replace(IDLE, state="loading", running=1), "local: some-model is being loaded"),
        (replace(IDLE, state="absent"), "local: some-model is not in memory, the next prompt loads it"),
        (replace(IDLE, model="/models/\x1b[31mred\n"), "local: ?[31mred?, memory safe, 3.2 GB free"),
    ],
)
def test_the_line_says_what_becomes_of_the_request(facts: Facts, line: str) -> None:
    assert told(facts) == line


def shown(file: Path) -> str:
    """What Claude Code would show."""
    return subprocess.run(
        ["/bin/sh", "-c", status_line.setting(file)["command"]], capture_output=True, text=True
    ).stdout


def test_a_shell_reads_the_line_as_long_as_its_writer_lives(tmp_path: Path) -> None:
    file = tmp_path / "a folder's" / "line-1"
    file.parent.mkdir()
    assert shown(file) == ""
    file.write_text(f"{os.getpid()}\nlocal: 25 % \\n `id` $HOME\n")
    assert shown(file) == "local: 25 % \\n `id` $HOME\n"
    ended = subprocess.Popen(["true"])
    ended.wait()
    file.write_text(f"{ended.pid}\nlocal: 25 %\n")
    assert shown(file) == ""


THEIRS = '{"statusLine": {"type": "command", "command": "date"}}'


@pytest.mark.parametrize(
    ("place", "encoding", "wanted"),
    [
        ("home/.claude/settings.json", "utf-8", False),
        ("home/.claude/settings.json", "utf-16", False),
        ("elsewhere/settings.json", "utf-8", True),
        ("home/work/.claude/settings.json", "utf-8", False),
        ("home/work/.claude/settings.local.json", "utf-8", False),
        ("home/work/deep/.claude/settings.local.json", "utf-8", False),
        ("home/other/.claude/settings.json", "utf-8", True),
    ],
)
def test_a_status_line_of_the_users_is_never_replaced(tmp_path: Path, place: str, encoding: str, wanted: bool) -> None:
    here = tmp_path / "home" / "work" / "deep"
    here.mkdir(parents=True)
    environment = {"HOME": str(tmp_path / "home")}
    assert status_line.is_wanted({}, [], str(here), environment)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(THEIRS, encoding)
    assert status_line.is_wanted({}, [], str(here), environment) is wanted
    if place.startswith("elsewhere"):
        configured = {**environment, "CLAUDE_CONFIG_DIR": str(tmp_path / "elsewhere")}
        assert not status_line.is_wanted({}, [], str(here), configured)


def test_what_is_given_with_settings_wins_and_nobody_looks_where_nothing_is_shown() -> None:
    assert not status_line.is_wanted({"statusLine": None}, [], "/", {})
    assert not status_line.is_wanted({}, ["-p", "hi"], "/", {})
    assert status_line.is_wanted({}, ["--resume"], "/nowhere", {})
