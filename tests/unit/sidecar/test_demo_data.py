"""The demo model's conversations: what is taught must be what the product will show it."""

import json
import random

import pytest

from sidecar.demo.training import tasks
from sidecar.demo.training.data import TASKS, Conversation, Task, answer, conversation, render
from sidecar.demo.training.outcomes import shown
from sidecar.demo.training.words import Pool


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool("held_out")


def _samples(pool: Pool, count: int = 60) -> list[Conversation]:
    rng = random.Random(4)
    return [conversation(pool, rng, 200, 2) for _ in range(count)]


def test_a_longer_conversation_only_appends_to_the_prompt(pool: Pool) -> None:
    """Else the prefix cache would start over at every turn. The results of one answer always come together."""
    for talk in _samples(pool):
        whole = render(talk.messages, talk.tools)
        for length in range(1, len(talk.messages)):
            if [message["role"] for message in talk.messages[length - 1 : length + 1]] != ["tool", "tool"]:
                assert whole.startswith(render(talk.messages[:length], talk.tools))


def test_answers_are_rendered_as_they_are_sampled(pool: Pool) -> None:
    """Prompt, answer and end marker make the history of the next turn, character for character."""
    for talk in _samples(pool):
        for index, message in enumerate(talk.messages):
            if message["role"] == "assistant":
                prompt = render(talk.messages[:index], talk.tools, add_generation_prompt=True)
                assert render(talk.messages[: index + 1], talk.tools) == prompt + answer(message) + "<|end|>\n"


def test_reports_copy_what_the_template_shows_of_a_result() -> None:
    """The clipping rule stands in the template and in outcomes.shown; the two must agree."""
    for text in ("a", "a\n\n b\n", "x" * 500, "\n".join("abcdefghijkl"), "", "12 apples", "  12\n", "é " * 300):
        turn = render([{"role": "tool", "name": "Read", "content": text}], ())
        assert turn == f"<|tool|>Read\n{shown(text)}<|end|>\n"


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
def test_calls_name_an_offered_tool_and_its_parameters_in_order(pool: Pool, task: Task) -> None:
    rng = random.Random(5)
    for _ in range(40):
        talk = conversation(pool, rng, 0, 1, task)
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in talk.tools}
        for call in (call["function"] for message in talk.messages for call in message.get("tool_calls", [])):
            schema, given = offered[call["name"]], list(call["arguments"])
            assert set(schema.get("required", [])) <= set(given)
            assert given == [name for name in schema["properties"] if name in given]


def _tool(name: str, required: list[str], *optional: str) -> dict[str, object]:
    properties = {key: {"type": "string"} for key in (*required, *optional)}
    return {"name": name, "parameters": {"type": "object", "properties": properties, "required": required}}


READ = _tool("Read", ["file_path"])
SEARCH = _tool("ToolSearch", ["query", "max_results"])
LEAVE = _tool("ExitPlanMode", [])
CALLED = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "Read", "arguments": {}}}]}


def test_a_result_says_what_is_left_of_the_words_behind_what_was_called() -> None:
    call = {"function": {"name": "Read", "arguments": {"file_path": "x"}}}
    messages = [
        {"role": "user", "content": "Read x, then y"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "Read", "content": "a"},
    ]
    assert render(messages, (READ,)).endswith("<|tool|>Read\na\n<|words|>, then y\n<|tools|>Read(file_path)<|end|>\n")


def test_results_without_their_calls_are_refused() -> None:
    """What is left of the words could not be known."""
    with pytest.raises(ValueError, match="calls"):
        render([{"role": "assistant", "content": "x"}, {"role": "tool", "content": "y"}], ())


def test_the_last_result_says_again_what_was_asked_and_offered() -> None:
    """A step in a row of steps is found where the answer is written, however long the results before it."""
    results = [{"role": "tool", "name": "Read", "content": text} for text in ("a", "b")]
    prompt = render([{"role": "user", "content": "Read x and y"}, CALLED, *results], (READ,))
    assert prompt.endswith(
        "<|tool|>Read\na<|end|>\n<|tool|>Read\nb\n<|words|>Read x and y\n<|tools|>Read(file_path)<|end|>\n"
    )


def test_results_that_come_together_are_clipped_shorter() -> None:
    results = [{"role": "tool", "name": "Read", "content": "x" * 500} for _ in range(2)]
    assert "x" * 320 + "…" in render(results[:1], ())
    assert render(results, ()).count("\n" + "x" * 160 + "…") == 2


def test_a_subagents_words_are_taken_out_of_their_frame() -> None:
    text = f"{'Some remarks. ' * 40}The report follows:\n  one\n    two\nagentId: 5 (and so on)\n<usage>"
    assert render([{"role": "tool", "name": "Agent", "content": text}], ()) == "<|tool|>Agent\none\n  two<|end|>\n"


def test_a_notification_that_a_subagent_has_finished_is_a_result() -> None:
    text = "<system-reminder>x\n<task-notification><result>done it</result></task-notification></system-reminder>"
    prompt = render([{"role": "user", "content": "Do it"}, CALLED, {"role": "user", "content": text}], ())
    assert prompt.endswith("<|tool|>Agent\ndone it\n<|words|>Do it<|end|>\n")


def test_what_slash_commands_leave_comes_before_the_users_words() -> None:
    text = (
        "<command-name>/x</command-name><command-args></command-args>\n\n<local-command-stdout>y</local-command-stdout>"
    )
    prompt = render([{"role": "user", "content": f"{text}\n\nsay hello"}], ())
    assert prompt.endswith("</local-command-stdout>\n<|words|>say hello<|end|>\n")


@pytest.mark.parametrize(
    ("tools", "first", "then"),
    [
        ((READ,), "plan:", "plan:"),
        ((READ, SEARCH), "plan: ToolSearch(query, max_results)", "plan:"),
        ((READ, LEAVE), "plan: ExitPlanMode()", "plan: ExitPlanMode()"),
        ((READ, SEARCH, LEAVE), "plan: ToolSearch(query, max_results)", "plan: ExitPlanMode()"),
    ],
)
def test_in_plan_mode_only_the_way_out_is_offered(tools: tuple[dict[str, object], ...], first: str, then: str) -> None:
    messages = [
        {"role": "system", "content": "Plan mode is active. Do nothing yet."},
        {"role": "user", "content": "read a"},
        CALLED,
        {"role": "tool", "name": "ToolSearch", "content": "x"},
    ]
    assert render(messages[:2], tools).endswith(f"<|user|>\nread a\n<|tools|>{first}<|end|>\n")
    assert render(messages, tools).endswith(f"<|words|>read a\n<|tools|>{then}<|end|>\n")
    approved = {"role": "tool", "name": "ExitPlanMode", "content": "approved"}
    assert render([*messages, CALLED, approved], tools).endswith("<|tools|>Read(file_path)<|end|>\n")
    refused = {"role": "tool", "name": "ExitPlanMode", "content": "Error: refused"}
    assert render([*messages, CALLED, refused], tools).endswith(f"<|tools|>{then}<|end|>\n")


def test_counted_greetings_have_the_words_they_promise() -> None:
    assert [len(text.split()) for text in tasks.COUNTED] == list(range(1, 9))


def test_the_halves_share_no_word_and_no_text(pool: Pool) -> None:
    other = Pool("train")
    assert not set(pool.words) & set(other.words)
    assert not set(pool.texts) & set(other.texts)
