"""What an agent says of the place where it runs, told apart from what it says everywhere.

Prompts of one agent in two folders are alike but for this, and whatever follows it in the prompt has to be read again:
so it is kept apart, and the prompt builder puts it behind the tools. Pure.
"""

import re
from collections.abc import Iterable

_PLACE = re.compile(r"(?<![\w:/.~])/[\w.@+-]+/[\w.@+-]")
"""An absolute path: what names one holds in one folder, or on one machine. No URL, no `and/or`, no `/command`."""


def settle(system: list[str], early: list[str]) -> tuple[str, tuple[str, ...]]:
    """The system prompt, and the parts of the environment, the one that more places share first.

    `early`: the system messages before the first answer. Only a client that sends some is taken for an agent which
    describes its place: a system prompt without them stays as it is.
    """
    if not early:
        return _joined(system), ()
    general, local = _parted(system)
    everywhere, here = _parted(early)
    return _joined(general), tuple(filter(None, [_joined(everywhere), _joined([*local, *here])]))


def _parted(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """The paragraphs that name no place, and those that do."""
    paragraphs = [paragraph for text in texts for paragraph in text.split("\n\n")]
    return (
        [paragraph for paragraph in paragraphs if not _PLACE.search(paragraph)],
        [paragraph for paragraph in paragraphs if _PLACE.search(paragraph)],
    )


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(filter(None, texts))
