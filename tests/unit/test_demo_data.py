"""The demo model's conversations: what is taught must be what the product will show it."""

import json
import random

import pytest

from sidecar.engine.demo import tasks
from sidecar.engine.demo.data import TASKS, Conversation, Task, answer, conversation, render
from sidecar.engine.demo.words import Pool


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool("held_out")


def _samples(pool: Pool, count: int = 60) -> list[Conversation]:
    rng = random.Random(4)
    return [conversation(pool, rng, 200, 2) for _ in range(count)]


def test_a_longer_conversation_only_appends_to_the_prompt(pool: Pool) -> None:
    """Else the prefix cache would start over at every turn."""
    for talk in _samples(pool):
        whole = render(talk.messages, talk.tools)
        for length in range(1, len(talk.messages)):
            assert whole.startswith(render(talk.messages[:length], talk.tools))


def test_answers_are_rendered_as_they_are_sampled(pool: Pool) -> None:
    """Prompt, answer and end marker make the history of the next turn, character for character."""
    for talk in _samples(pool):
        for index, message in enumerate(talk.messages):
            if message["role"] == "assistant":
                prompt = render(talk.messages[:index], talk.tools, add_generation_prompt=True)
                assert render(talk.messages[: index + 1], talk.tools) == prompt + answer(message) + "<|end|>\n"


def test_reports_copy_what_the_template_shows_of_a_result() -> None:
    """The clipping rule stands in the template and in tasks.shown; the two must agree."""
    for text in ("a", "a\n\n b\n", "x" * 500, "\n".join("abcdefghijkl"), "", "12 apples", "  12\n", "é " * 300):
        turn = render([{"role": "tool", "name": "Read", "content": text}], ())
        assert turn == f"<|tool|>Read\n{tasks.shown(text)}<|end|>\n"


def test_line_numbers_of_the_client_are_not_shown() -> None:
    for text in ("1\ta\n2\t\n3\t  b", "     1\ta\n     2\t\n     3\t  b\n", "7→a\n8→\n9→  b"):
        assert render([{"role": "tool", "content": text}], ()) == "<|tool|>\na\n\n  b<|end|>\n"


def test_a_table_of_numbers_keeps_its_first_column() -> None:
    text = "3\tfoo\n17\tbar"
    assert text in render([{"role": "tool", "content": text}], ())


def test_reminders_come_before_the_users_words_and_the_hint_comes_last() -> None:
    tool = {"name": "Read", "description": "", "parameters": {"type": "object", "required": ["file_path"]}}
    content = "<system-reminder>one</system-reminder>\n\nRead a.txt\n<system-reminder>two</system-reminder>"
    prompt = render([{"role": "user", "content": content}], ({"type": "function", "function": tool},))
    assert prompt.endswith("<|user|>\none\ntwo\n<|words|>Read a.txt\n<|tools|>Read(file_path)<|end|>\n")


@pytest.mark.parametrize(
    "tool", [{"name": "A"}, {"name": "A", "parameters": {}}, {"name": "A", "parameters": {"required": None}}]
)
def test_a_tool_without_required_parameters_is_no_hint(tool: dict[str, object]) -> None:
    prompt = render([{"role": "user", "content": "x"}], ({"type": "function", "function": tool},))
    assert json.dumps(tool) in prompt
    assert "<|tools|>" not in prompt


@pytest.mark.parametrize("task", list(TASKS), ids=lambda task: task.__name__)
def test_calls_name_an_offered_tool_and_its_required_parameter(pool: Pool, task: Task) -> None:
    rng = random.Random(5)
    for _ in range(40):
        talk = conversation(pool, rng, 0, 1, task)
        offered = {tool["function"]["name"]: tool["function"]["parameters"].get("required", []) for tool in talk.tools}
        calls = [call["function"] for message in talk.messages for call in message.get("tool_calls", [])]
        assert all(list(call["arguments"]) == offered[call["name"]] for call in calls)


def test_counted_greetings_have_the_words_they_promise() -> None:
    assert [len(text.split()) for text in tasks.COUNTED] == list(range(1, 9))


def test_the_halves_share_no_word_and_no_text(pool: Pool) -> None:
    other = Pool("train")
    assert not set(pool.words) & set(other.words)
    assert not set(pool.texts) & set(other.texts)
