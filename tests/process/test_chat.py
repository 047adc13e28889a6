"""`claude-local run` as a chat, and the files that are asked about."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import machine
from tests.process.test_words import GREETING, run
from tests.support import census
from tests.support.home import SHIM, Home
from tests.support.screen import Screen
from tests.support.waiting import wait_until

LINE = f'trap : INT; {" ".join(SHIM)} run --max-tokens 300; echo "exit code $?"; exec sleep 600'
"""In a shell that a Ctrl-C does not end."""


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with machine(grace=600) as place:
        home = Home("home", place)
        yield home
        home.close()


@pytest.fixture
def screen(home: Home) -> Iterator[Screen]:
    with Screen(home, "sh", "-c", LINE, columns=80, lines=40) as screen:
        screen.wait_for("demo. /help says what there is, /bye leaves.", ">>>")
        yield screen


def status(home: Home) -> dict[str, Any]:
    """Asked without starting a program for it."""
    return census.status(home.machine.run) or {"requests": {}, "recent": [], "leases": []}


def is_running(home: Home) -> bool:
    return bool(status(home)["requests"].get("running"))


def prompts(home: Home) -> list[int]:
    """Tokens of the last ones."""
    return [each["prompt_tokens"] for each in status(home)["recent"]]


def test_a_chat_remembers_what_was_said_until_it_is_cleared(home: Home, screen: Screen) -> None:
    asked = len(prompts(home))
    screen.submit("Hello in 5 words")
    screen.wait_for(GREETING.strip())
    screen.submit("Hello once more")
    wait_until(lambda: len(prompts(home)) == asked + 2, 60)
    screen.submit("/clear")
    screen.wait_for("a new conversation")
    screen.press("Up", "Up", "Up", "Enter")  # the first question, from the editor's history
    wait_until(lambda: len(prompts(home)) == asked + 3, 60)
    first, second, again = prompts(home)[-3:]
    assert first == again and second > first + 10
    screen.submit("/bye")
    screen.wait_for("exit code 0")


def test_ctrl_c_ends_the_answer_and_not_the_chat(home: Home, screen: Screen) -> None:
    screen.submit("say river stone forever")
    screen.wait_for("river stone " * 5)
    screen.press("C-c")
    screen.wait_for("(ended)")
    wait_until(lambda: not is_running(home))
    screen.press("C-c")
    screen.wait_for("(/bye or Ctrl-D leaves)")
    screen.submit("Hello in 5 words")
    screen.wait_for(GREETING.strip())
    screen.press("C-d")
    screen.wait_for("exit code 0")


def test_several_lines_a_file_and_what_is_no_command(home: Home, screen: Screen) -> None:
    (home.project / "notes.txt").write_text("seven green birds\n" * 200)
    screen.submit('"""Hello')
    screen.wait_for("...")
    screen.submit('in 5 words"""')
    screen.wait_for(GREETING.strip())
    screen.submit("/fiel")
    screen.wait_for("there is no /fiel: /help says what there is")
    screen.submit("/file nowhere.txt")
    screen.wait_for("claude-local: nowhere.txt: No such file or directory")
    screen.submit("/file notes.txt")
    screen.wait_for("the text of notes.txt goes with the next question")
    screen.submit("What is it about?")
    wait_until(lambda: prompts(home)[-1] > 600, 60)


@pytest.mark.full
def test_a_sidecar_that_was_stopped_meanwhile_is_started_again(home: Home, screen: Screen) -> None:
    assert home.call("stop", "--now").returncode == 0
    screen.submit("Hello in 5 words")
    screen.wait_for(GREETING.strip())


def test_what_is_read_is_shown_where_one_waits_for_it(home: Home) -> None:
    (home.project / "long.txt").write_text("word " * 40_000)
    with Screen(home, "sh", "-c", f"{' '.join(SHIM)} run < long.txt", columns=80) as screen:
        screen.wait_for("local: reading", "% of", "tokens")
        pid = next(lease["pid"] for lease in status(home)["leases"] if lease["command"] == "run")
        assert (home.machine.run / f"line-{pid}").read_text().splitlines()[1].startswith("local: reading ")
        screen.press("C-c")
        screen.wait_for_end()
    wait_until(lambda: not list(home.machine.run.glob("line-*")))


@pytest.mark.parametrize(
    ("name", "data", "code", "says"),
    [
        ("notes.txt", b"seven green birds " * 99, 0, ""),
        ("from-windows.txt", ("seven green birds " * 99).encode("utf-16"), 0, ""),
        ("photo.png", b"\x89PNG\0\0", 65, "photo.png is not a text"),
        ("nowhere.txt", None, 66, "nowhere.txt: No such file"),
    ],
)
def test_a_file_goes_with_the_question(home: Home, name: str, data: bytes | None, code: int, says: str) -> None:
    file = Path(home.project / name)
    if data is not None:
        file.write_bytes(data)
    result = run(home, "--max-tokens", "8", "--file", name, "What is it about?")
    assert result.returncode == code and says in result.stderr, result
    if not code:
        assert prompts(home)[-1] > 300
