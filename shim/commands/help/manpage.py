"""The man page, in the language of man(7). Pure, but for the file that is installed with the package:

`python -m shim.commands.help.manpage bin/man/claude-local.1` writes it.
"""

import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from shim.commands.help.reference import Entry, entries
from sidecar import __version__
from sidecar.shared.config import Config

BEGINNING = """\
.TH CLAUDE\\-LOCAL 1 "{date}" "claude\\-local {version}" "User Commands"
.SH NAME
claude\\-local \\- run a command against a language model on this machine
.SH SYNOPSIS
.B claude\\-local
[\\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]]
.SH DESCRIPTION
Runs COMMAND with a language model on this machine behind the Anthropic Messages API.
Without COMMAND, or when the first argument begins with a hyphen, COMMAND is Claude Code.
The words below come before any command of the same name;
.B claude\\-local \\-\\-
COMMAND reaches the command.
An agent that is known to talk to its vendor's models is told to talk to this machine's, or refused where it cannot be;
.B claude\\-local \\-\\-local\\-anyway
COMMAND runs it as it is.
.SH WORDS
"""
MIDDLE = """\
.SH EXIT STATUS
The command's own; 127 where there is none, 126 where it cannot run.
Of a word: 0; 1 where
.B doctor
has found a failure; 64 for arguments that mean nothing, 78 for settings that cannot be, and 69 to 75 for what stands
on stderr.
.SH ENVIRONMENT
Each setting is a variable, or a key of config.toml, in lower case and without the prefix.
"""
END = """\
.SH FILES
.I ~/.config/claude\\-local/config.toml
.SH SEE ALSO
.B claude\\-local
WORD
.BR \\-\\-help ,
and README.md.
"""


def roff(words: Iterable[Entry], day: date | None = None) -> str:
    """All of it; without a day it says the same tomorrow."""
    lines = [line for each in words for line in _word(each)]
    settings = [f".TP\n.B {_roff(f'CLAUDE_LOCAL_{name.upper()}')}\n{_default(name)}" for name in Config._fields]
    beginning = BEGINNING.format(date=day.isoformat() if day else "", version=_roff(__version__))
    return f"{beginning}{_joined(lines)}{MIDDLE}{_joined(settings)}{END}"


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _word(each: Entry) -> list[str]:
    lines = [f'.SS "{_roff(each.usage)}"', _roff(f"{each.summary[0].upper()}{each.summary[1:]}.")]
    for option in (*each.places, *each.options):
        takes = f" \\fI{_roff(option.name)}\\fR" if option.name and option.flags else ""
        title = f"\\fB{_roff(', '.join(option.flags))}\\fR{takes}" if option.flags else f"\\fI{_roff(option.name)}\\fR"
        lines += [".TP", title, _roff(option.help)]
    for line, purpose in each.examples:
        lines += [".TP", f"\\fB{_roff(line)}\\fR", _roff(purpose)]
    return lines


def _roff(text: str) -> str:
    """Nothing in it is a command, and a hyphen is one that can be pasted."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("…", "...")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _default(name: str) -> str:
    value = Config._field_defaults[name]
    if isinstance(value, bool):
        return "on" if value else "off"
    return "default: " + _roff(f"{value:g}" if isinstance(value, float) else str(value) or "the platform's")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(roff(entries()), "utf-8")
