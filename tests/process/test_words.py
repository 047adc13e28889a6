"""The words that do more than look: one answer on stdout, this machine's speed, logs that are followed."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.client.conftest import machine
from tests.support.home import SHIM, Home
from tests.support.waiting import wait_until

GREETING = "Hello! How are you today?\n"
LONG = "word " * 40_000
"""Takes the demo model more than half a minute to read."""


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with machine(grace=600) as place:
        home = Home("home", place)
        yield home
        home.close()


@pytest.fixture
def lonely() -> Iterator[Home]:
    with machine(grace=600) as place:
        home = Home("home", place)
        yield home
        home.close()


def run(home: Home, *words: str, piped: str = "") -> subprocess.CompletedProcess[str]:
    """`claude-local run WORDS` with something in a pipe."""
    return subprocess.run(
        [*SHIM, "run", *words],
        input=piped,
        capture_output=True,
        text=True,
        cwd=home.project,
        env=home.environment,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("words", "piped", "said"),
    [
        (["Hello in 5 words"], "", GREETING),
        (["Hello", "in", "5", "words"], "", GREETING),
        ([], "Hello in 5 words", GREETING),
        (["Say exactly:"], "seven green birds\n", "seven green birds\n"),
        (["--", "Hello in 5 words"], "", GREETING),
        ([], "Say \0 hello", "\0 hello\n"),
        (["--model", "demo", "--system", "You are kind.", "Hello in 5 words"], "", GREETING),
    ],
)
def test_one_answer_on_stdout(home: Home, words: list[str], piped: str, said: str) -> None:
    result = run(home, *words, piped=piped)
    assert (result.returncode, result.stdout, result.stderr) == (0, said, "")


def test_a_longest_answer_is_kept_to_and_said(home: Home) -> None:
    result = run(home, "--max-tokens", "3", "Hello in 5 words")
    assert result.returncode == 0
    assert GREETING.startswith(result.stdout.strip()) and len(result.stdout) < len(GREETING)
    assert result.stderr == "claude-local: the answer was cut off after 3 tokens (--max-tokens)\n"


@pytest.mark.parametrize(
    ("words", "piped", "code", "said"),
    [
        ([], "", 64, 'run needs a prompt: claude-local run "Hello in 5 words"'),
        ([], " \n", 64, "run needs a prompt"),
        (["--max-tokens", "none", "hi"], "", 64, "'none' is not a number of tokens"),
        (["--modle", "demo", "hi"], "", 64, "did you mean --model?"),
        (["--model", "nothing-of-that-name", "hi"], "", 64, "no model is called 'nothing-of-that-name'"),
        ([], "word " * 200_000, 65, "prompt is too long"),
        ([], "2026-11-28 12:00:00 INFO request 17 took 4 ms\n" * 260_000, 65, "prompt is too long: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(home: Home, words: list[str], piped: str, code: int, said: str) -> None:
    result = run(home, *words, piped=piped)
    assert (result.returncode, result.stdout) == (code, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_piped_in_is_waited_for_and_that_is_said(home: Home) -> None:
    process = home.start("run", "Say exactly:")
    assert process.stdin is not None and process.stderr is not None
    assert process.stderr.readline().startswith(b"claude-local: waiting for what is piped in")
    process.stdin.write(b"seven green birds\n")
    process.stdin.close()
    assert ended(process) == (0, b"seven green birds\n", b"")


def begun(home: Home) -> "subprocess.Popen[bytes]":
    """A `run` whose request the engine has."""
    process = home.start("run")
    assert process.stdin is not None
    process.stdin.write(LONG.encode())
    process.stdin.close()
    wait_until(lambda: (home.status().get("requests") or {}).get("running") == 1)
    return process


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, bytes, bytes]:
    assert process.stdout is not None and process.stderr is not None
    return process.wait(30), process.stdout.read(), process.stderr.read()


def test_ctrl_c_ends_it_and_its_request(home: Home) -> None:
    process = begun(home)
    wait_until(lambda: [(each["pid"], each["doing"]) for each in streams(home)] == [(process.pid, "reading")])
    process.send_signal(signal.SIGINT)
    assert ended(process) == (-signal.SIGINT, b"", b"")
    wait_until(lambda: home.status()["requests"] | {"total": 0} == idle())
    assert not home.status()["leases"]


def streams(home: Home) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = home.status()["requests"]["streams"]
    return shown


def idle() -> dict[str, Any]:
    return {"running": 0, "waiting": 0, "total": 0, "queue": [], "streams": []}


def test_a_reader_that_has_seen_enough_is_no_error(home: Home) -> None:
    line = f'{" ".join(SHIM)} run "Hello in 5 words" | head -c 5'
    result = home.run("sh", "-c", line)
    assert (result.returncode, result.stdout, result.stderr) == (0, "Hello", "")


@pytest.mark.parametrize("word", ["status", "help", "models", "run Hello", "doctor --quick platform"])
def test_closed_streams_and_a_full_disk_are_no_crash(home: Home, word: str) -> None:
    """As in cron, or where a script has closed what it does not need."""
    for closed in ("<&-", ">&-", "<&- >&- 2>&-"):
        result = home.run("sh", "-c", f"{' '.join(SHIM)} {word} {closed}")
        assert (result.returncode, result.stderr) == (0, ""), closed
    full = home.run("sh", "-c", f"{' '.join(SHIM)} {word} >/dev/full")
    assert (full.returncode, full.stderr) == (71, "claude-local: No space left on device\n")


def test_a_sidecar_that_is_killed_is_one_line(lonely: Home) -> None:
    process = begun(lonely)
    os.kill(lonely.status()["pid"], signal.SIGKILL)
    code, said, complaint = ended(process)
    assert (code, said) == (69, b"")
    assert complaint.startswith(b"claude-local: the answer broke off") and complaint.count(b"\n") == 1


def test_an_engine_that_dies_in_the_middle_of_an_answer_is_named(home: Home) -> None:
    process = home.start("run", "say river stone forever")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    assert process.stdout.read(12)
    os.kill(home.engine(), signal.SIGKILL)
    code, _, complaint = ended(process)
    assert code == 69
    assert complaint.startswith(b"claude-local: the answer broke off (the engine has ended)")


def test_a_sidecar_that_it_starts_keeps_nothing_of_its_surroundings(lonely: Home) -> None:
    """Its reader would never see the end of a pipe that the sidecar holds, nor its folder be unmounted."""
    reader, writer = os.pipe()
    words = [*SHIM, "true"]
    subprocess.run(words, pass_fds=[writer], cwd=lonely.project, env=lonely.environment, stdin=subprocess.DEVNULL)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert psutil.Process(lonely.status()["pid"]).cwd() == "/"


@pytest.mark.full
def test_bench_says_what_it_measured(home: Home) -> None:
    wait_until(lambda: not home.status().get("requests", {}).get("running"))
    result = home.call("bench", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    figures = json.loads(result.stdout)
    assert figures["model"] == "demo"
    sizes = [each["prompt_tokens"] for each in figures["reading"]]
    assert sizes == sorted(sizes) and 400 < sizes[0] < 600
    assert all(
        each["tokens_per_s"] * each["cold_s"] == pytest.approx(each["prompt_tokens"]) for each in figures["reading"]
    )
    assert [each["streams"] for each in figures["writing"]] == [1, 4]
    assert {each["priority"] for each in home.status()["recent"][-8:]} == {"side"}  # conversations go before it
    # What it calls cold was read, and what it calls warm was not.
    tokens = home.status()["tokens"]
    assert tokens["read"] > sum(sizes) and tokens["from_memory"] > 0.9 * sum(sizes)


def test_logs_are_followed_until_ctrl_c(home: Home) -> None:
    run(home, "Hello in 5 words")
    process = home.start("logs", "-f", "-n", "1", "sidecar")
    assert process.stdout is not None
    assert b"first token after" in process.stdout.readline()
    home.call("true")
    assert b"lease granted" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == -signal.SIGINT
