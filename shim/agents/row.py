"""What the table of agents says of one of them, and how its gaps are filled. Pure; it knows no agent."""

from collections.abc import Mapping
from typing import Any, NamedTuple

Gaps = Mapping[str, str | int]
"""What stands in a row's texts as <name>: url, token, model, window, output, input and folder."""


class Row(NamedTuple):
    """One agent: refused, or set up. Texts have gaps (`Gaps`); a text that is one gap alone becomes that value."""

    refusal: str = ""
    """Why it is not run, and what to do instead; empty = it is set up."""
    variables: Mapping[str, Any] = {}
    """Texts; what is none becomes JSON."""
    merged: Mapping[str, Mapping[str, Any]] = {}
    """Variables that hold JSON: the user's own value stays beneath ours."""
    arguments: tuple[str, ...] = ()
    """They go before the user's. Everybody can read them, so the token is in none."""
    files: Mapping[str, Any] = {}
    """By name, in a private folder of this invocation: text, or a table, which becomes JSON (and that is YAML)."""
    beneath: Mapping[str, str] = {}
    """The user's own file, in JSON, that stays beneath one of ours."""
    plain: tuple[str, ...] = ()
    """First arguments with which it asks no model: it runs as it is."""
    barred: tuple[str, ...] = ()
    """Options and first arguments by which it would ask another than ours: refused."""
    models: tuple[str, ...] = ()
    """Options that name a model: refused where the name does not begin with one of `ours`."""
    ours: tuple[str, ...] = ()
    abbreviates: bool = False
    """Whether it takes the beginning of an option for the whole."""
    overruling: tuple[str, ...] = ()
    """Files of a project that would overrule ours, whatever they say: with one of them here or above, refused."""
    packages: tuple[str, ...] = ()
    """Names under which a package runner fetches it."""
    names: tuple[str, ...] = ()
    """More names of the command."""
    remark: str = ""
    """What the user should know each time, on one line."""


def filled(value: Any, gaps: Gaps) -> Any:
    """A row's text, or a table with texts in it, without gaps."""
    if isinstance(value, str):
        if value[1:-1] in gaps and value == f"<{value[1:-1]}>":
            return gaps[value[1:-1]]
        for name, gap in gaps.items():
            value = value.replace(f"<{name}>", str(gap))
        return value
    if isinstance(value, Mapping):
        return {text(key, gaps): filled(each, gaps) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [filled(each, gaps) for each in value]
    return value


def text(value: str, gaps: Gaps) -> str:
    """The same, always as text."""
    return str(filled(value, gaps))


def laid_over(beneath: Any, ours: Any) -> Any:
    """Two JSON values as one; where both have a say, it is ours."""
    if not (isinstance(beneath, dict) and isinstance(ours, dict)):
        return ours
    return {**beneath, **{key: laid_over(beneath.get(key), value) for key, value in ours.items()}}
