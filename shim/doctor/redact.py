"""Text that may be shown to strangers: without secrets, and without the user's name in paths. Pure."""

import re
from collections.abc import Iterable

SECRET = re.compile(
    r"\b(?:cl-[\w-]{20,}|(?:sk-|hf_|ghp_|github_pat_)[\w-]{6,})"  # tokens, by how they begin
    r"|(?<=://)[^/@\s]+(?=@)"  # user and password in an address
    r"|(?<=[Bb]earer )[^\s'\"]+"
)


def discreet(text: str, homes: Iterable[str], user: str) -> str:
    """Home folders become ~, the user's name as a part of any other path becomes USER, secrets become …"""
    text = SECRET.sub("…", text)
    for home in sorted({home.rstrip("/") for home in homes} - {""}, key=len, reverse=True):
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    return re.sub(rf"(?<=/){re.escape(user)}(?![\w.-])", "USER", text) if user else text
