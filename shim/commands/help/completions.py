"""claude-local completions: what a shell needs to complete our words, their options, and a command after us as its own.

The scripts are made from the words' own parsers; each shell's way of saying it is in a template below.
"""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence

from shim.command_line import ANYWAY
from shim.commands.help.reference import Entry, Option, entries
from shim.commands.parsing import Parser

EXAMPLES = (
    ("claude-local completions bash > FILE", "which ~/.bashrc reads: source FILE"),
    ("claude-local completions zsh > DIR/_claude-local", "DIR in fpath, before compinit"),
    ("claude-local completions fish > FILE", "~/.config/fish/completions/claude-local.fish"),
)

ANYWAY_SUMMARY = "an agent as it is, whomever it asks"


def parser() -> Parser:
    made = Parser("completions", EXAMPLES)
    made.add_argument("shell", choices=tuple(SHELLS), help="whose script is printed")
    return made


def run(arguments: list[str]) -> int:
    shell = parser().parse_args(arguments).shell
    sys.stdout.write(SHELLS[shell](entries()))
    return 0


# bash. Where the bash-completion package is loaded, it completes a command's own arguments.

BASH = """\
_claude_local_takes() { # OPTIONS VALUED REPEATED CHOICES…: of one word of ours; VALUED options are followed by a value
    local options=$1 valued=$2 repeated=$3 place=0 index
    shift 3
    local values=$(_claude_local_values "${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD-1]}")
    if [[ $values ]]; then
        COMPREPLY=($(compgen -W "$values" -- "$current"))
        return
    fi
    [[ " $valued " != *" ${COMP_WORDS[COMP_CWORD-1]} "* ]] || return
    for ((index = 2; index < COMP_CWORD; index++)); do
        [[ ${COMP_WORDS[index]} == -* || " $valued " == *" ${COMP_WORDS[index-1]} "* ]] || ((place++))
    done
    local choices=("$@")
    ((place < $# || ! repeated)) || place=$(($# - 1))
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    elif ((place < $#)); then
        COMPREPLY=($(compgen -W "${choices[place]}" -- "$current"))
    fi
}

_claude_local_values() { # WORD BEFORE: what may come behind BEFORE, of one word of ours
    case $1 in
@VALUES@
    esac
}

_claude_local_command() { # OFFSET: the command that stands there, as if it stood alone
    if ((COMP_CWORD == $1)); then
        COMPREPLY+=($(compgen -c -- "$current"))
    elif declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "$1"
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    fi
}

_claude_local() {
    local current=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W @WORDS@ -- "$current"))
        _claude_local_command 1
        return
    fi
    case ${COMP_WORDS[1]} in
@CASES@
    -- | @ANYWAY@) _claude_local_command 2 ;;
    -*) ;;
    *) _claude_local_command 1 ;;
    esac
}

complete -o bashdefault -o default -F _claude_local claude-local
"""


def bash(words: Sequence[Entry]) -> str:
    cases = [f"    {each.word}) _claude_local_takes {_bash(each)} ;;" for each in words]
    names = shlex.quote(" ".join([*(each.word for each in words), ANYWAY]))
    values = [
        f"    {shlex.quote(f'{word} {before}')}) echo {shlex.quote(' '.join(may))} ;;"
        for word, before, may in _values(words)
    ]
    return (
        BASH.replace("@WORDS@", names)
        .replace("@ANYWAY@", ANYWAY)
        .replace("@CASES@", "\n".join(cases))
        .replace("@VALUES@", "\n".join(values))
    )


def _values(words: Sequence[Entry]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Of each word: what is known of the values behind one of its options, or behind another argument."""
    for each in words:
        for option in each.options:
            if known := option.choices or option.offered:
                yield from ((each.word, flag, known) for flag in option.flags)
        for place in each.places:
            yield from ((each.word, before, known) for before, known in place.following)


def _bash(each: Entry) -> str:
    flags = [flag for option in each.options for flag in option.flags]
    valued = [flag for option in each.options if option.name for flag in option.flags]
    repeated = any(place.repeated for place in each.places)
    lists = [
        [*flags, "--help"],
        valued,
        ["1" if repeated else "0"],
        *(place.choices or place.offered for place in each.places),
    ]
    return " ".join(shlex.quote(" ".join(each)) for each in lists)


# zsh

ZSH = """\
#compdef claude-local
_claude_local_value() { # of what stands before
    case $words[CURRENT-1] in
@VALUES@
    *) _files ;;
    esac
}
_claude-local() {
    local -a ours=(
@WORDS@
    )
    if (( CURRENT == 2 )); then
        _describe -t words 'word of claude-local' ours
        _command_names -e
        return
    fi
    local word=$words[2]
    shift words
    (( CURRENT-- ))
    case $word in
@CASES@
    -- | @ANYWAY@) _precommand ;;
    -*) _files ;;
    *) _normal -p claude-local ;;
    esac
}
# Found in fpath, this file is the function when it is first called; else somebody reads it.
if [[ $funcstack[1] == _claude-local ]]; then
    _claude-local "$@"
else
    compdef _claude-local claude-local
fi
"""


def zsh(words: Sequence[Entry]) -> str:
    told = [*((each.word, each.summary) for each in words), (ANYWAY, ANYWAY_SUMMARY)]
    names = [f"        {shlex.quote(f'{word}:{_zsh_text(summary)}')}" for word, summary in told]
    cases = [f"    {each.word}) _arguments {' '.join(_zsh(each))} ;;" for each in words]
    behind = [known for each in words for place in each.places for known in place.following]
    values = [f"    {before}) compadd -- {' '.join(may)} ;;" for before, may in behind]
    return (
        ZSH.replace("@WORDS@", "\n".join(names))
        .replace("@ANYWAY@", ANYWAY)
        .replace("@CASES@", "\n".join(cases))
        .replace("@VALUES@", "\n".join(values))
    )


def _zsh(each: Entry) -> list[str]:
    specs = []
    for option in each.options:
        value = f":{option.name}:{_zsh_values(option)}" if option.name else ""
        together = f"({' '.join(option.flags)})" if len(option.flags) > 1 else ""
        specs += [f"{together}{flag}[{_zsh_text(option.help)}]{value}" for flag in option.flags]
    for number, place in enumerate(each.places, 1):
        where = "*" if place.repeated else str(number)
        specs.append(f"{where}:{_zsh_text(place.name)}:{_zsh_values(place)}")
    return [shlex.quote(spec) for spec in [*specs, "--help[what it takes, with examples]"]]


def _zsh_values(option: Option) -> str:
    if option.following:
        return "_claude_local_value"
    if option.offered:
        names = f'"names\\:name\\:({" ".join(option.offered)})"'
        return f'{{_alternative {names} "files\\:file\\:_files"}}'
    return f"({' '.join(option.choices)})" if option.choices else "_files"


def _zsh_text(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\:[]" else letter for letter in text)


# fish

FISH = """\
function __claude_local_word # the word of ours that has been typed, or nothing
    set -l typed (commandline -opc)
    test (count $typed) -ge 2; and contains -- $typed[2] @WORDS@; and echo $typed[2]
end
function __claude_local_is
    set -l word (__claude_local_word)
    test "$word" = $argv[1]
end
function __claude_local_behind # WORD: whether it stands before
    set -l typed (commandline -opc)
    test "$typed[-1]" = $argv[1]
end
function __claude_local_place # PLACE FLAG…: whether so many arguments come before; a value follows each FLAG
    set -l typed (commandline -opc)
    set -l count 0
    set -l before
    for each in $typed[3..]
        if not string match -q -- '-*' $each; and not contains -- "$before" $argv[2..]
            set count (math $count + 1)
        end
        set before $each
    end
    test $count -eq $argv[1]
end
function __claude_local_first
    test (count (commandline -opc)) -eq 1
end
function __claude_local_command
    set -l typed (commandline -opc) (commandline -ct)
    set -e typed[1]
    contains -- "$typed[1]" -- @ANYWAY@; and set -e typed[1]
    complete -C "$typed"
end
complete -c claude-local -n 'test -z (__claude_local_word)' -x -a '(__claude_local_command)'
@LINES@
"""


def fish(words: Sequence[Entry]) -> str:
    first = "complete -c claude-local -n __claude_local_first -a"
    lines = [f"{first} {each.word} -d {_fish(each.summary)}" for each in words]
    lines.append(f"{first} {ANYWAY} -d {_fish(ANYWAY_SUMMARY)}")
    for each in words:
        lines += [_fish_option(each.word, option) for option in each.options]
        valued = "".join(f" {flag}" for option in each.options if option.name for flag in option.flags)
        lines += [
            _fish_place(each.word, f"{number}{valued}", place)
            for number, place in enumerate(each.places)
            if place.choices or place.offered
        ]
        lines += [_fish_behind(each.word, *known) for place in each.places for known in place.following]
        if not any(place.name and not place.choices for place in each.places):
            lines.append(f"complete -c claude-local -n '__claude_local_is {each.word}' -f")
    names = " ".join(each.word for each in words)
    return FISH.replace("@WORDS@", names).replace("@ANYWAY@", ANYWAY).replace("@LINES@", "\n".join(lines))


def _fish_option(word: str, option: Option) -> str:
    flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    value = f" -x -a {_fish(' '.join(option.choices))}" if option.choices else " -r" if option.name else ""
    value += f" -a {_fish(' '.join(option.offered))}" if option.offered else ""
    return f"complete -c claude-local -n '__claude_local_is {word}' {' '.join(flags)}{value} -d {_fish(option.help)}"


def _fish_place(word: str, number: str, place: Option) -> str:
    """`number`: the place's, and the flags that are followed by a value."""
    where = "" if place.repeated else f"; and __claude_local_place {number}"
    choices = _fish(" ".join(place.choices or place.offered))
    return f"complete -c claude-local -n '__claude_local_is {word}{where}' -a {choices} -d {_fish(place.help)}"


def _fish_behind(word: str, before: str, values: tuple[str, ...]) -> str:
    condition = f"__claude_local_is {word}; and __claude_local_behind {before}"
    return f"complete -c claude-local -n '{condition}' -x -a {_fish(' '.join(values))}"


def _fish(text: str) -> str:
    """In single quotes, where only these two mean something."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[Sequence[Entry]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
