"""A model's way of writing calls is learnt by looking, or not used at all."""

import pytest

from sidecar.conversation import Call
from sidecar.engine.structured_output.call_format import OURS, PROBE, CallFormat, learn

CALLS = [Call("", call["name"], call["arguments"]) for call in PROBE]
COMPACT = CallFormat("[TOOL_CALLS]", "", "[ARGS]", "", "", "", ",", ":")
TYPED = CallFormat("<call>", '{"type": "function", "name": "', '", "parameters": ', "}", "</call>", "\n\n")


@pytest.mark.parametrize("form", [OURS, COMPACT, TYPED], ids=["ours", "compact", "typed"])
def test_a_format_is_learnt_from_two_calls(form: CallFormat) -> None:
    text = f"before<{form.start[1:]}x{form.between.join(map(form.render, CALLS))}<|end|>\n"
    assert learn(text, form.start, form.end) == form


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing of the kind",
        # One list in one pair of markers, as Mistral did it at first.
        '<c>[{"name": "xfirstx", "arguments": {"xkeyx": "xvaluex", "xnumberx": 1}}, '
        '{"name": "xsecondx", "arguments": {"xkeyx": "xothervaluex", "xnumberx": 2}}]</c>',
        # XML.
        "<c><function=xfirstx><parameter=xkeyx>xvaluex</parameter></function></c><c><function=xsecondx></function></c>",
        # Python.
        '<c>[xfirstx(xkeyx="xvaluex", xnumberx=1), xsecondx(xkeyx="xothervaluex", xnumberx=2)]</c>',
        # An id that counts, in a place of its own.
        '<c>xfirstx:0{"xkeyx": "xvaluex", "xnumberx": 1}</c><c>xsecondx:1{"xkeyx": "xothervaluex", "xnumberx": 2}</c>',
        # Arguments as a string.
        '<c>xfirstx"{\\"xkeyx\\": \\"xvaluex\\"}"</c><c>xsecondx"{}"</c>',
        # Only one call of the two.
        '<c>xfirstx{"xkeyx": "xvaluex", "xnumberx": 1}</c>',
    ],
)
def test_other_formats_are_not_used(text: str) -> None:
    assert learn(text, "<c>", "</c>") is None


def test_a_tokenizer_without_markers_has_no_format() -> None:
    assert learn(OURS.between.join(map(OURS.render, CALLS)), "", "") is None
