"""Programs that know no name but ANTHROPIC_API_KEY, and Claude Code, which stops to ask about it."""

import json
import shlex

import pytest

from tests.client import packages
from tests.support.home import SHIM, Home, Machine
from tests.support.screen import Screen, trust

OLD_SDK = """
import anthropic
asked = [{"role": "user", "content": "Hello in 5 words"}]
print(anthropic.Anthropic().messages.create(model="demo", max_tokens=50, messages=asked).content[0].text)
"""
AI_SDK = """
const { createAnthropic } = require(process.argv[1] + "/node_modules/@ai-sdk/anthropic");
const { generateText } = require(process.argv[1] + "/node_modules/ai");
const anthropic = createAnthropic({ baseURL: process.env.ANTHROPIC_BASE_URL + "/v1" });
generateText({ model: anthropic("demo"), prompt: "Hello in 5 words" }).then((answer) => console.log(answer.text));
"""


@pytest.fixture
def user(shared: Machine) -> Home:
    return Home("user", shared)


def is_greeting(text: str) -> bool:
    return len(text.split()) == 5


def test_the_python_sdk_of_old_finds_its_key_also_through_a_shell(user: Home) -> None:
    """Up to 0.50 it takes an empty key for none at all."""
    words = [str(packages.installed("anthropic").programs / "python"), "-c", OLD_SDK]
    for command in (words, ["sh", "-c", shlex.join(words)]):
        done = user.call(*command)
        assert done.returncode == 0 and is_greeting(done.stdout), done.stderr


def test_the_ai_sdk_finds_its_key(user: Home) -> None:
    if node := packages.node():
        user.environment["PATH"] = f"{node}:{user.environment['PATH']}"
    done = user.call("node", "-e", AI_SDK, str(packages.installed("ai").folder))
    assert done.returncode == 0 and is_greeting(done.stdout), done.stderr


@pytest.mark.full
@pytest.mark.parametrize("command", [["sh"], ["sh", "-c", "claude"]])
def test_claude_code_in_a_shell_asks_nothing_about_a_key_and_keeps_none(home: Home, command: list[str]) -> None:
    """It would ask anew for each token, and write the end of each into ~/.claude.json."""
    trust(home)
    with Screen(home, *SHIM, *command) as screen:
        if command == ["sh"]:
            screen.wait_for("#" if home.folder.owner() == "root" else "$")
            screen.submit("claude")
        screen.wait_for("API Usage Billing", "mode on")
    assert "customApiKeyResponses" not in json.loads((home.folder / ".claude.json").read_text())
