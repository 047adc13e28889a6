"""What an agent's work is made of, with the real Claude Code on the demo model: calls in a row, together, through a
subagent, calls that fail, sessions taken up again, and prompts that are too long."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import machine
from tests.support.home import Home

# Fixed texts, since the demo model copies most, not all (its card has the figures).
TEXTS = {"one.txt": "green apples on a table", "two.txt": "river stone lamp", "three.txt": "blue garden"}
WORDS = "river stone lamp"
READING = ("--allowedTools", "Read")


@dataclass(frozen=True, slots=True)
class Work:
    """What `--output-format stream-json` tells of a run."""

    events: list[dict[str, Any]]

    def blocks(self, kind: str, role: str = "assistant") -> list[tuple[str, dict[str, Any]]]:
        """The content blocks of a kind, each with its message's id."""
        messages = [event["message"] for event in self.events if event["type"] == role]
        return [
            (message.get("id", ""), block)
            for message in messages
            for block in message["content"]
            if block["type"] == kind
        ]

    def calls(self) -> list[list[tuple[str, dict[str, Any]]]]:
        """Names and arguments of the calls, answer by answer."""
        answers = groupby(self.blocks("tool_use"), key=lambda found: found[0])
        return [[(block["name"], block["input"]) for _, block in found] for _, found in answers]

    @property
    def failures(self) -> list[bool]:
        return [bool(block.get("is_error")) for _, block in self.blocks("tool_result", "user")]

    @property
    def said(self) -> list[str]:
        return [block["text"].strip() for _, block in self.blocks("text")]

    @property
    def result(self) -> dict[str, Any]:
        return self.events[-1]


def work(home: Home, ask: str, *arguments: str) -> Work:
    run = home.call("--print", ask, *arguments, "--output-format", "stream-json", "--verbose")
    assert run.returncode == 0, run
    done = Work([json.loads(line) for line in run.stdout.splitlines()])
    assert done.result["type"] == "result"
    assert done.result["is_error"] is False
    return done


def file_says(name: str) -> str:
    return f"The file says: {TEXTS[name]}"


@pytest.fixture
def files(home: Home) -> Home:
    for name, text in TEXTS.items():
        (home.project / name).write_text(f"{text}\n")
    return home


@pytest.mark.full
def test_three_calls_in_a_row_each_follow_the_result_before(files: Home) -> None:
    done = work(files, "read one.txt, then two.txt, then three.txt", *READING)
    assert done.calls() == [[("Read", {"file_path": name})] for name in TEXTS]
    assert done.failures == [False] * 3
    assert done.said == [file_says(name) for name in TEXTS]
    assert done.result["result"] == file_says("three.txt")
    assert done.result["num_turns"] == 4


def test_two_calls_of_one_answer_are_made_together_and_reported_together(files: Home) -> None:
    done = work(files, "read one.txt and two.txt", *READING)
    assert done.calls() == [[("Read", {"file_path": name}) for name in ("one.txt", "two.txt")]]
    assert done.failures == [False] * 2
    # The client does not promise an order of the results.
    assert sorted(done.result["result"].splitlines()) == sorted(map(file_says, ("one.txt", "two.txt")))


def test_a_failing_tool_is_reported_as_such_and_the_next_call_made(home: Home) -> None:
    (home.project / "fails.sh").write_text("echo broken; exit 3\n")
    done = work(home, f"run sh fails.sh, then run echo {WORDS}", "--allowedTools", "Bash")
    assert done.calls() == [[("Bash", {"command": command})] for command in ("sh fails.sh", f"echo {WORDS}")]
    assert done.failures == [True, False]
    assert done.said == ["That did not work: Exit code 3", f"The command printed: {WORDS}"]


def test_a_file_that_is_not_there_is_no_end_of_the_session(home: Home) -> None:
    done = work(home, "read missing.txt", *READING)
    assert done.failures == [True]
    assert done.result["result"].startswith("That did not work: File does not exist.")


@pytest.mark.full
def test_a_subagent_does_what_it_is_told_and_its_words_are_reported(home: Home) -> None:
    """Its own conversation, with another system prompt and other tools, is served by the same model."""
    done = work(home, f"use a subagent to say {WORDS}")
    [[(name, arguments)]] = done.calls()
    assert (name, arguments["prompt"], arguments["subagent_type"]) == ("Agent", f"say {WORDS}", "general-purpose")
    assert done.failures == [False]
    assert done.result["result"] == f"The subagent says: {WORDS}"
    assert done.result["subagent_stats"]["completed"] == 1


@pytest.mark.parametrize("flag", ["--continue", "--resume"])
def test_a_session_taken_up_again_is_not_read_again(home: Home, flag: str) -> None:
    def turn(ask: str, *arguments: str) -> dict[str, Any]:
        run = home.call("--print", ask, *arguments, "--output-format", "json")
        assert run.returncode == 0, run
        table: dict[str, Any] = json.loads(run.stdout)
        return table

    first = turn(f"say {WORDS}")
    assert first["result"] == WORDS
    second = turn("Hello in 5 words", flag, *([first["session_id"]] if flag == "--resume" else []))
    assert len(second["result"].split()) == 5
    usage = second["usage"]
    read = usage["input_tokens"] + usage["cache_creation_input_tokens"]
    assert usage["cache_read_input_tokens"] > 9 * read
    said = [json.loads(line) for line in transcript(home, second["session_id"]).splitlines()]
    assert WORDS in [
        part["text"] for line in said if line["type"] == "assistant" for part in line["message"]["content"]
    ]


def transcript(home: Home, session: str) -> str:
    [file] = (home.folder / ".claude" / "projects").rglob(f"{session}.jsonl")
    return file.read_text()


@pytest.fixture
def narrow(claude: Path) -> Iterator[Home]:
    """A home on a machine whose window ends soon after the client's own prompt, which is about 20,000 tokens."""
    with machine(grace=600, CLAUDE_LOCAL_CONTEXT="24000") as place:
        home = Home("home", place, claude)
        yield home
        home.close()


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers_on_the_users_screen(narrow: Home) -> None:
    """The client counts on its own and would send nothing that it finds too long: digits and dashes are more tokens
    to the demo model than it expects."""
    run = narrow.call("--print", "say " + "1-2-3-4-5-6-7-8-9-0-" * 800)
    assert run.returncode == 1
    shown = re.match(r"Prompt is too long · the request is ~(\d+) tokens \(limit (\d+)\)", run.stdout)
    assert shown, run
    logged = re.search(r"400 prompt is too long: (\d+) tokens > (\d+) maximum", narrow.machine.logged())
    assert logged
    assert shown.groups() == logged.groups()
    assert int(shown[1]) > int(shown[2]) == 23999
