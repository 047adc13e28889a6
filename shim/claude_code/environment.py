"""The environment a command runs in: the user's own, plus what points Anthropic clients at our port. Pure."""

from collections.abc import Mapping

IDLE_MS = str(30 * 60 * 1000)
"""How long a client may see no event: a 100,000-token prompt on a slow machine reads for a quarter of an hour."""

REQUEST_MS = str(60 * 60 * 1000)
"""How long a whole answer may take."""

LOOPBACK = ("127.0.0.1", "localhost")

ELSEWHERE = (
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_MANTLE",
    "ANTHROPIC_UNIX_SOCKET",
)
"""Each of these sends the client somewhere else, whatever its base URL says."""


def ours(
    port: int, token: str, model: str, context_window: int = 0, output_limit: int = 0, key: bool = False
) -> dict[str, str]:
    """Only what we add. Each name was tried on the real client, whose documentation is silent on some.

    `key`: whether the token goes under the older name too, which alone many programs know.
    """
    added = {
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
        "ANTHROPIC_AUTH_TOKEN": token,
        "ANTHROPIC_API_KEY": token if key else "",  # never unset: a .env would bring a paid one back
        "ANTHROPIC_MODEL": model,
        "ANTHROPIC_SMALL_FAST_MODEL": model,
        "CLAUDE_CODE_SUBAGENT_MODEL": model,
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",  # a block that changes from session to session, before the prefix
        "CLAUDE_CODE_TOTAL_TOKENS_REMINDER": "off",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
        "CLAUDE_CODE_DISABLE_AGENT_VIEW": "1",  # its daemon would outlive the port
        "CLAUDE_STREAM_IDLE_TIMEOUT_MS": IDLE_MS,
        "API_TIMEOUT_MS": REQUEST_MS,
    }
    for family in ("OPUS", "SONNET", "HAIKU", "FABLE"):
        added[f"ANTHROPIC_DEFAULT_{family}_MODEL"] = model
    if context_window:
        added["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(context_window)
    if output_limit:
        added["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(output_limit)
    return added


def environment(base: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """The command's whole environment. `base` is the user's and stays as it is."""
    whole = {name: value for name, value in base.items() if name not in ELSEWHERE}
    whole.update(added)
    whole.update(no_proxy(base))
    return whole


def no_proxy(base: Mapping[str, str]) -> dict[str, str]:
    """Both spellings, extended: a client that knows one of them must still see what the user put in the other."""
    extended = {}
    for name, other in (("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY")):
        entries = [part.strip() for part in (base.get(name) or base.get(other) or "").split(",") if part.strip()]
        if "*" not in entries:
            entries += [host for host in LOOPBACK if host not in entries]
        extended[name] = ",".join(entries)
    return extended
