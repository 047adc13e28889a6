"""How today's chat templates write an answer, an earlier one, and "no thought": nothing twice, nothing lost.

Each row has the shape of the templates of the models that it is named after, in a few words of our own.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
from mlx_lm.utils import load_tokenizer

from sidecar.conversation import Conversation, Message, Text
from sidecar.engine.prompting.prompt_builder import PromptBuilder
from tests.support.models import FAMILIES, Family, write_tokenizer


class Shape(NamedTuple):
    """`@` stands for the content."""

    user: str
    answer: str
    """An earlier answer."""
    opened: str
    """What a prompt ends with when the model is to answer without thinking."""
    opened_to_think: str | None = None
    closed: str = ""
    """What a prompt ends with that asks for no answer."""
    begin: str = ""
    names: tuple[str, ...] = ()
    """Special tokens; `<think>` and `</think>` are added to them."""
    content: str = "m.content"

    def template(self) -> str:
        content = "{{ " + self.content + " }}"
        user, answer = (part.replace("@", content) for part in (self.user, self.answer))
        to_think = self.opened if self.opened_to_think is None else self.opened_to_think
        return (
            f"{self.begin}{{% for m in messages %}}"
            f"{{% if m.role == 'assistant' %}}{answer}{{% else %}}{user}{{% endif %}}"
            "{% endfor %}{% if add_generation_prompt %}"
            f"{{% if enable_thinking %}}{to_think}{{% else %}}{self.opened}{{% endif %}}"
            f"{{% else %}}{self.closed}{{% endif %}}"
        )


IM = ("<|im_start|>", "<|im_end|>")
ROLES = ("<|user|>", "<|assistant|>")
IM_USER, IM_ANSWER, IM_OPEN = (
    "<|im_start|>user\n@<|im_end|>\n",
    "<|im_start|>assistant\n@<|im_end|>\n",
    "<|im_start|>assistant\n",
)
NO_THOUGHT = "<think>\n\n</think>\n\n"
WITHOUT_THOUGHT = "m.content.split('</think>')[-1].lstrip('\\n')"
TURN = ("<start_of_turn>", "<end_of_turn>")
SHAPES = {
    "Phi-3, Phi-3.5, Phi-4-mini": Shape(
        "<|user|>\n@<|end|>\n", "<|assistant|>\n@<|end|>\n", "<|assistant|>\n", closed="<|endoftext|>"
    ),
    "Phi-4": Shape(
        "<|im_start|>user<|im_sep|>@<|im_end|>",
        "<|im_start|>assistant<|im_sep|>@<|im_end|>",
        "<|im_start|>assistant<|im_sep|>",
        names=(*IM, "<|im_sep|>"),
    ),
    "Phi-4 reasoning": Shape(IM_USER, IM_ANSWER, IM_OPEN, IM_OPEN + "<think>", names=IM),
    "Qwen 2.5": Shape(IM_USER, IM_ANSWER, IM_OPEN, names=IM),
    "Qwen 3": Shape(IM_USER, IM_ANSWER, IM_OPEN + NO_THOUGHT, IM_OPEN, names=IM, content=WITHOUT_THOUGHT),
    "Qwen 3.5, 3.6": Shape(
        IM_USER, IM_ANSWER, IM_OPEN + NO_THOUGHT, IM_OPEN + "<think>\n", names=IM, content=WITHOUT_THOUGHT + ".strip()"
    ),
    "QwQ, Qwen 3 Thinking": Shape(IM_USER, IM_ANSWER, IM_OPEN + "<think>\n", names=IM, content=WITHOUT_THOUGHT),
    "GLM 4.5": Shape(
        "<|user|>\n@",
        "<|assistant|>\n<think></think>\n@",
        "<|assistant|>\n<think></think>",
        "<|assistant|>",
        begin="[gMASK]<sop>",
        names=("[gMASK]", "<sop>"),
    ),
    "GLM 4.7": Shape("<|user|>@", "<|assistant|></think>@", "<|assistant|></think>", "<|assistant|><think>"),
    "Nemotron 3": Shape(
        IM_USER,
        "<|im_start|>assistant\n<think></think>@<|im_end|>\n",
        IM_OPEN + "<think></think>",
        IM_OPEN + "<think>\n",
        names=IM,
    ),
    "DeepSeek V3": Shape(
        "<|User|>@", "<|Assistant|>@<|eos|>", "<|Assistant|>", names=("<|User|>", "<|Assistant|>", "<|eos|>")
    ),
    "DeepSeek R1": Shape(
        "<|User|>@",
        "<|Assistant|>@<|eos|>",
        "<|Assistant|><think>\n",
        names=("<|User|>", "<|Assistant|>", "<|eos|>"),
        content=WITHOUT_THOUGHT,
    ),
    "DeepSeek V3.1": Shape(
        "<|User|>@",
        "<|Assistant|></think>@<|eos|>",
        "<|Assistant|></think>",
        "<|Assistant|><think>",
        names=("<|User|>", "<|Assistant|>", "<|eos|>"),
    ),
    "Ling 3": Shape(
        "<role>HUMAN</role>@<|end|>",
        "<role>ASSISTANT</role><think></think>@<|end|>",
        "<role>ASSISTANT</role><think></think>",
        "<role>ASSISTANT</role>",
        names=("<role>", "</role>"),
    ),
    "Laguna": Shape(
        "<user>\n@\n</user>\n",
        "<assistant>\n<think></think>@\n</assistant>\n",
        "<assistant>\n<think></think>",
        "<assistant>\n<think>",
        names=("<assistant>", "</assistant>"),
    ),
    "Llama 3": Shape(
        "<|start_header_id|>user<|end_header_id|>\n\n@<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n@<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        begin="<|begin|>",
        names=("<|begin|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        content="m.content | trim",
    ),
    "Mistral": Shape("[INST]@[/INST]", "@</s>", "", begin="<s>", names=("<s>", "</s>", "[INST]", "[/INST]")),
    "Mistral 7B": Shape(
        "[INST] @[/INST]",
        " @</s>",
        "",
        begin="<s>",
        names=("<s>", "</s>", "[INST]", "[/INST]"),
        content="m.content | trim",
    ),
    "Gemma 3": Shape(
        "<start_of_turn>user\n@<end_of_turn>\n",
        "<start_of_turn>model\n@<end_of_turn>\n",
        "<start_of_turn>model\n",
        begin="<bos>",
        names=("<bos>", *TURN),
        content="m.content | trim",
    ),
    "Gemma 4": Shape(
        "<|turn>user\n@<turn|>\n",
        "<|turn>model\n@<turn|>\n",
        "<|turn>model\n<|channel>thought\n<channel|>",
        "<|turn>model\n",
        names=("<|turn>", "<turn|>", "<|channel>", "<channel|>"),
    ),
    "gpt-oss": Shape(
        "<|start|>user<|message|>@<|end|>",
        "<|start|>assistant<|channel|>final<|message|>@<|end|>",
        "<|start|>assistant",
        names=("<|start|>", "<|message|>", "<|channel|>"),
    ),
    "Granite": Shape(
        "<|start_of_role|>user<|end_of_role|>@<|endoftext|>\n",
        "<|start_of_role|>assistant<|end_of_role|>@<|endoftext|>\n",
        "<|start_of_role|>assistant<|end_of_role|>",
        names=("<|start_of_role|>", "<|end_of_role|>"),
    ),
    "Command R": Shape(
        "<|START|><|USER|>@<|END|>",
        "<|START|><|BOT|>@<|END|>",
        "<|START|><|BOT|>",
        names=("<|START|>", "<|END|>", "<|USER|>", "<|BOT|>"),
    ),
    "Command A": Shape(
        "<|START|><|USER|>@<|END|>",
        "<|START|><|BOT|><|START_RESPONSE|>@<|END_RESPONSE|><|END|>",
        "<|START|><|BOT|><|START_RESPONSE|>",
        "<|START|><|BOT|><|START_THINKING|>",
        names=(
            "<|START|>",
            "<|END|>",
            "<|USER|>",
            "<|BOT|>",
            "<|START_RESPONSE|>",
            "<|END_RESPONSE|>",
            "<|START_THINKING|>",
        ),
    ),
    "SmolLM3": Shape(
        IM_USER,
        "<|im_start|>assistant\n<think>\n\n</think>\n@<|im_end|>\n",
        IM_OPEN + "<think>\n\n</think>\n",
        IM_OPEN,
        names=IM,
    ),
    "Kimi K2": Shape(
        "<|im_user|>user<|im_middle|>@<|im_end|>",
        "<|im_assistant|>assistant<|im_middle|>@<|im_end|>",
        "<|im_assistant|>assistant<|im_middle|>",
        names=("<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>"),
    ),
    "MiniMax M2": Shape("]~b]user\n@[e~[\n", "]~b]ai\n@[e~[\n", "]~b]ai\n<think>\n", names=("]~b]", "[e~[")),
    "Hunyuan": Shape(
        "<|user|>@",
        "<|assistant|><think>\n\n</think>\n@<|eos|>",
        "<|assistant|><think>\n\n</think>\n",
        "<|assistant|>",
        names=("<|eos|>",),
    ),
    "Ernie 4.5": Shape(
        "User: @\n",
        "Assistant: @<|end_of_sentence|>\n",
        "Assistant: ",
        begin="<|begin_of_sentence|>",
        names=("<|begin_of_sentence|>", "<|end_of_sentence|>"),
    ),
    "Seed-OSS": Shape(
        "<seed:bos>user\n@<seed:eos>",
        "<seed:bos>assistant\n@<seed:eos>",
        "<seed:bos>assistant\n",
        names=("<seed:bos>", "<seed:eos>"),
    ),
    "Exaone 4": Shape(
        "[|user|]\n@[|endofturn|]\n",
        "[|assistant|]\n<think>\n\n</think>\n\n@[|endofturn|]\n",
        "[|assistant|]\n<think>\n\n</think>\n\n",
        "[|assistant|]\n<think>\n",
        names=("[|user|]", "[|assistant|]", "[|endofturn|]"),
    ),
    "LFM2": Shape(
        IM_USER, IM_ANSWER, IM_OPEN, begin="<|startoftext|>", names=(*IM, "<|startoftext|>"), content=WITHOUT_THOUGHT
    ),
    "Magistral": Shape("[INST]@[/INST]", "@</s>", "", names=("[INST]", "[/INST]", "[THINK]", "[/THINK]", "</s>")),
    "Falcon, Vicuna, in plain words": Shape("USER: @ ", "ASSISTANT: @</s>", "ASSISTANT: ", names=("</s>",)),
}
TURNS = "ABCD"


@pytest.mark.parametrize("thinks", ["", TURNS, "BD"], ids=["never thinks", "thinks", "thinks now and then"])
@pytest.mark.parametrize("name", SHAPES)
def test_an_answer_comes_back_as_it_was_sampled_and_everything_is_said_once(
    name: str, thinks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is sampled letter by letter, which no tokenizer would do: were it rendered from its text, it would be
    other tokens, and the next turn would have to read it again."""
    shape = SHAPES[name]
    family = Family(shape.template(), special=shape.names, added=("<think>", "</think>"), end="<|end|>")
    monkeypatch.setitem(FAMILIES, "shape", family)
    write_tokenizer(tmp_path, "shape")
    tokenizer = load_tokenizer(tmp_path)
    prompts, messages = PromptBuilder(tokenizer), list[Message]()
    known: list[int] = []
    for turn in TURNS:
        messages.append(Message("user", (Text(f"ask{turn}"),)))
        prompt = prompts.build(Conversation("", tuple(messages), thinking=turn in thinks))
        text = tokenizer.decode(prompt.tokens)
        assert prompt.tokens[: len(known)] == known, text
        said = [word + letter for letter in TURNS[: TURNS.index(turn)] for word in ("ask", "json")]
        assert [text.count(word) for word in [*said, f"ask{turn}"]] == [1] * (len(said) + 1), text
        sampled = [token for letter in f"json{turn}" for token in tokenizer.encode(letter, add_special_tokens=False)]
        prompts.remember(prompt, [Text(f"json{turn}")], sampled)
        messages.append(Message("assistant", (Text(f"json{turn}"),)))
        known = [*prompt.tokens, *sampled]
