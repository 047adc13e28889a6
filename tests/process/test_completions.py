"""Completion in real shells. bash is everywhere; zsh and fish are asked where they are installed."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.command_line import OURS
from shim.commands.help import completions
from shim.commands.help.reference import entries
from tests.client.conftest import machine
from tests.support.home import Home
from tests.support.screen import Screen

ASK_BASH = """
source "$1"; shift
if [ "$1" = with-package ]; then shift; source "$PACKAGE"; compopt() { :; }; fi
COMP_WORDS=(claude-local "$@"); COMP_CWORD=$#
COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
_claude_local
printf '%s\\n' "${COMPREPLY[@]}"
"""
PACKAGE = Path("/usr/share/bash-completion/bash_completion")

CASES = {
    "sta": {"status", "stat"},
    "doctor --q": {"--quick"},
    "doctor mod": {"model"},
    "doctor model hu": {"hub"},
    "cache ": {"clear"},
    "completions ": {"bash", "zsh", "fish"},
    "help stat": {"status"},
    "logs -n 5 si": {"sidecar"},
    "models use qwen3-co": {"qwen3-coder-30b"},
    "models sh": {"show"},
    "run --model dem": {"demo"},
    "config set profile l": {"lean"},
    "config set model phi": {"phi-3-mini"},
    "config set grace n": {"never"},
    "printe": {"printenv"},
    "-- printe": {"printenv"},
    "--loc": {"--local-anyway"},
    "--local-anyway printe": {"printenv"},
}
"""What is typed after claude-local, and what must be offered."""
NOT_OFFERED = {"-- sto": "stop", "cache clear ": "clear", "logs -n ": "sidecar", "doctor --no": "--now"}


@pytest.fixture
def script(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    file = tmp_path / request.param
    file.write_text(completions.SHELLS[request.param](entries()))
    return file


def ask_bash(script: Path, typed: str) -> set[str]:
    words = typed.split(" ")
    command = ["bash", "--norc", "-c", ASK_BASH, "bash", str(script), *words]
    environment = {"PATH": "/usr/bin:/bin", "PACKAGE": str(PACKAGE)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert not done.stderr, done.stderr
    return {*done.stdout.split()}


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_offers_our_words_and_commands(script: Path) -> None:
    for typed, wanted in CASES.items():
        assert wanted <= ask_bash(script, typed), typed
    for typed, unwanted in NOT_OFFERED.items():
        assert unwanted not in ask_bash(script, typed), typed
    assert {*OURS} <= ask_bash(script, "")


@pytest.mark.skipif(not PACKAGE.exists(), reason="the bash-completion package is not installed")
@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes_a_commands_own_arguments(script: Path, tmp_path: Path) -> None:
    (tmp_path / "folder-of-mine").mkdir()
    for typed in (f"cd {tmp_path}/fold", f"-- cd {tmp_path}/fold"):
        assert f"{tmp_path}/folder-of-mine" in ask_bash(script, f"with-package {typed}"), typed


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_offers_our_words_and_commands(script: Path, tmp_path: Path) -> None:
    def offered(typed: str) -> set[str]:
        command = ["fish", "--no-config", "-c", f"source {script}; complete -C 'claude-local {typed}'"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert not done.stderr, done.stderr
        return {line.partition("\t")[0] for line in done.stdout.splitlines()}

    for typed, wanted in CASES.items():
        assert wanted <= offered(typed), typed
    for typed, unwanted in NOT_OFFERED.items():
        assert unwanted not in offered(typed), typed


@pytest.fixture
def home() -> Iterator[Home]:
    with machine(2) as place:
        home = Home("home", place)
        yield home
        home.close()


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
@pytest.mark.parametrize("script", ["zsh"], indirect=True)
@pytest.mark.parametrize("way", ["read", "in fpath"])
def test_zsh_completes_our_words_and_commands(script: Path, home: Home, way: str) -> None:
    script.with_name("_claude-local").write_text(script.read_text())
    before, after = (f"fpath=({script.parent} $fpath)", "true") if way == "in fpath" else ("true", f"source {script}")
    whole = {
        "doct": "doctor",
        "doctor mod": "doctor model",
        "cache ": "cache clear",
        "models use dem": "models use demo",
        "logs --fol": "logs --follow",
        "run --model dem": "run --model demo",
        "config set profile lea": "config set profile lean",
    }
    commands = {"printe": "printenv", "-- printe": "-- printenv", "cd fold": "cd folder-of-mine"}
    (home.project / "folder-of-mine").mkdir()
    with Screen(home, "zsh", "-f", columns=200) as screen:
        screen.submit(f"PS1='rea''dy> '; {before}; autoload -U compinit; compinit -u; {after}; clear")
        for typed, completed in {**whole, **commands}.items():
            screen.wait_for("ready>")
            screen.type(f"claude-local {typed}\t")
            screen.wait_for(f"claude-local {completed}")
            screen.press("C-u", "C-l")


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_the_script_is_what_is_printed(script: Path, home: Home) -> None:
    assert home.call("completions", "bash").stdout == script.read_text()
    assert home.call("completions", "tcsh").returncode == 64
