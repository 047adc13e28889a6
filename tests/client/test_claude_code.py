"""`claude-local --print …` with the real Claude Code on the demo model: what a script's author sees."""

import json
from collections.abc import Iterator

import pytest

from tests.support.home import Bait, Home
from tests.support.place import Session
from tests.support.waiting import wait_until

# The demo model copies most texts, not all (its card has the figures), so these are fixed ones that it copies.
SPECIAL_TEXT = 'END = "<|end|>"'
WORDS = "river stone lamp"
OTHER_WORDS = "blue garden"


@pytest.fixture
def bait() -> Iterator[Bait]:
    bait = Bait()
    yield bait
    bait.close()


def printed(home: Home, *arguments: str) -> str:
    result = home.call("--print", *arguments)
    assert result.returncode == 0, result
    assert "claude-local:" not in result.stderr
    return result.stdout.strip()


def test_a_greeting_in_five_words_has_five_words(home: Home) -> None:
    assert len(printed(home, "Hello in 5 words").split()) == 5


def test_it_says_what_it_is_told_to(home: Home) -> None:
    assert printed(home, f"say {WORDS}") == WORDS


def test_a_file_is_read_and_reported(home: Home) -> None:
    """Two requests and a tool's result between them, in no one's hands but the client's and the model's. What the file
    says of special tokens is read and written as it is."""
    (home.project / "notes.txt").write_text(f"{SPECIAL_TEXT}\n")
    assert SPECIAL_TEXT in printed(home, "Read notes.txt", "--allowedTools", "Read")


def test_a_command_is_run_and_its_output_reported(home: Home) -> None:
    assert printed(home, f"run echo {WORDS}", "--allowedTools", "Bash") == f"The command printed: {WORDS}"
    (home.project / "show.sh").write_text(f"touch ran; echo {OTHER_WORDS}\n")
    assert OTHER_WORDS in printed(home, "run sh show.sh", "--allowedTools", "Bash")
    assert (home.project / "ran").exists()


def test_a_second_run_finds_the_first_ones_engine_and_prefix(home: Home) -> None:
    def tell() -> tuple[int, int, int]:
        usage = json.loads(printed(home, "Hello in 5 words", "--output-format", "json"))["usage"]
        return usage["input_tokens"], usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]

    tell()
    before = home.status()
    read, made, cached = tell()
    after = home.status()
    assert (after["pid"], after["engine"]["pid"]) == (before["pid"], before["engine"]["pid"])
    assert cached > 9 * (read + made)
    wait_until(lambda: not home.status()["leases"])


def test_a_stream_of_events_has_no_error_in_it(home: Home) -> None:
    lines = printed(home, "Hello in 5 words", "--output-format", "stream-json", "--verbose").splitlines()
    events = [json.loads(line) for line in lines]
    assert events[-1]["type"] == "result"
    assert events[-1]["is_error"] is False
    assert len(events[-1]["result"].split()) == 5
    assert not [event for event in events if "error" in (event["type"], event.get("subtype"))]
    assert not [event for event in events if event.get("subtype") == "api_retry"]


def test_settings_that_send_claude_elsewhere_are_neither_followed_nor_changed(home: Home, bait: Bait) -> None:
    """A user's ~/.claude/settings.json beats the environment, so a variable alone would not be enough."""
    file = home.folder / ".claude" / "settings.json"
    file.parent.mkdir()
    env = {"ANTHROPIC_BASE_URL": bait.address, "ANTHROPIC_API_KEY": "sk-mine", "ANTHROPIC_MODEL": "theirs"}
    text = json.dumps({"env": env, "theme": "light"}, indent=4)
    file.write_text(text)
    written = file.stat().st_mtime_ns
    assert len(printed(home, "Hello in 5 words").split()) == 5
    assert (file.read_text(), file.stat().st_mtime_ns) == (text, written)
    assert not bait.was_taken()
    wait_until(lambda: not list(home.machine.run.glob("claude-settings-*")))


def test_claude_in_another_terminal_goes_where_it_went(home: Home, bait: Bait) -> None:
    """While a claude-local session runs, in the same home and folder."""
    session = Session(home)  # type: ignore[arg-type]  # it needs no more of a place than `start`
    environment = {**home.environment, "ANTHROPIC_BASE_URL": bait.address, "ANTHROPIC_AUTH_TOKEN": "mine"}
    served = home.status()["requests"]["total"]
    bait.wait_for_claude(home, environment)
    assert home.status()["requests"]["total"] == served
    assert session.end() == 0


def test_a_background_session_is_refused_in_words(home: Home) -> None:
    """Its daemon would outlive the port and go on asking it."""
    result = home.call("--bg", "hello")
    assert result.returncode == 1
    assert "--bg" in result.stderr
