"""What is read of a prompt, what is known of it, and what the status says about it."""

from typing import Any

from tests.client.api import Terminal
from tests.support.agent import request


def asked(terminal: Terminal, folder: str, session: str, **changes: Any) -> dict[str, Any]:
    """An agent's first request from a folder, answered; returns the status's line about it."""
    headers = {"x-claude-code-session-id": session}
    terminal.whole({**request(folder, "Hello", scale=0.15), "model": terminal.model, **changes}, headers)
    record: dict[str, Any] = terminal.home.status()["recent"][-1]
    assert record["session"] == session[:8]
    return record


def test_another_folder_reads_a_quarter_at_most_and_status_says_what_differs(demo: Terminal) -> None:
    first = asked(demo, "/srv/one", "reading-1")
    again = asked(demo, "/srv/one", "reading-2")
    other = asked(demo, "/home/me/two", "reading-2")
    assert first["why"] == again["why"] == ""
    assert again["read"] <= 0.05 * again["prompt_tokens"]
    assert other["read"] <= 0.25 * other["prompt_tokens"]
    assert other["why"].startswith("the environment, at character ")
    assert other["from_memory"] + other["from_disk"] + other["read"] == other["prompt_tokens"]
