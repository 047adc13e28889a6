"""The official SDK for TypeScript, run by node under claude-local as anybody would run it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.client.api import Terminal

SCRIPT = Path(__file__).with_name("typescript.cjs")


@pytest.fixture(scope="module")
def done(demo: Terminal, sdk: Path) -> dict[str, Any]:
    """What came of each thing that the script does."""
    result = demo.home.call("node", str(SCRIPT), str(sdk))
    assert result.returncode == 0, result.stderr
    table: dict[str, Any] = json.loads(result.stdout)
    return table


def test_a_message_is_created(done: dict[str, Any]) -> None:
    created = done["create"]
    assert len(created["text"].split()) == 5
    assert created["stop"] == "end_turn"
    assert created["usage"]["output_tokens"] > 0
    assert re.fullmatch("req_[0-9a-f]{24}", created["id"])


def test_a_message_is_streamed(done: dict[str, Any]) -> None:
    assert done["stream"] == {**done["stream"], "text": done["create"]["text"], "stop": "end_turn"}
    assert "".join(done["stream"]["pieces"]) == done["create"]["text"]


def test_a_call_is_streamed(done: dict[str, Any]) -> None:
    streamed = done["streamed_call"]
    assert streamed["stop"] == "tool_use"
    assert (streamed["call"]["name"], streamed["call"]["input"]) == ("Bash", {"command": "ls"})
    assert json.loads("".join(streamed["pieces"])) == {"command": "ls"}


def test_a_calls_result_is_answered(done: dict[str, Any]) -> None:
    answer = done["round_trip"]
    assert answer["stop"] == "end_turn"
    assert answer["text"]
    assert answer["usage"]["cache_read_input_tokens"] > answer["usage"]["input_tokens"]


def test_the_tool_runner_runs_its_tools_until_the_answer(done: dict[str, Any]) -> None:
    assert done["runner"] == {"ran": [["Bash", {"command": "ls"}]], "stop": "end_turn"}


def test_tokens_are_counted(done: dict[str, Any]) -> None:
    assert done["count"]["counted"] == done["count"]["billed"] > 0


def test_models_are_listed(done: dict[str, Any]) -> None:
    assert done["models"][0] == "demo"
    assert len({*done["models"]}) == len(done["models"]) > 2


def test_a_model_is_described(done: dict[str, Any]) -> None:
    assert (done["one_model"]["id"], done["one_model"]["type"]) == ("demo", "model")


def test_errors_have_the_sdks_own_classes(done: dict[str, Any]) -> None:
    kinds = [(error["kind"], error["status"], error["type"]) for error in done["errors"]]
    assert kinds == [
        ("BadRequestError", 400, "invalid_request_error"),
        ("NotFoundError", 404, "not_found_error"),
        ("AuthenticationError", 401, "authentication_error"),
        ("BadRequestError", 400, "invalid_request_error"),
    ]
    assert all(re.fullmatch("req_[0-9a-f]{24}", error["requestID"]) for error in done["errors"])


def test_a_stream_is_aborted(done: dict[str, Any], demo: Terminal) -> None:
    assert done["abort"]["heard"][0] == "message_start" and "message_stop" not in done["abort"]["heard"]
    assert done["abort"]["ended"]["kind"] == "APIUserAbortError"
    assert demo.running() == 0


def test_an_answer_has_the_shape_that_was_asked_for(done: dict[str, Any]) -> None:
    assert set(done["structured"]) == {"way", "up"}
    assert done["structured"]["way"] in ("up", "down")
