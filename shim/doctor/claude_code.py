"""Claude Code: which one there is, and what its settings files would do against us."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shim import user_command
from shim.claude_code import install
from shim.claude_code.environment import ELSEWHERE, ours
from shim.doctor.check import Finding, failure, ok, warning
from shim.doctor.context import Case
from shim.errors import Failure
from shim.global_mode.settings_file import Settings
from shim.global_mode.state import Folder

VERSION_S = 20.0
OLDEST = (2, 1)
"""Of the versions that we have run against; older ones ask in other ways."""
MANAGED = {
    "darwin": Path("/Library/Application Support/ClaudeCode/managed-settings.json"),
    "linux": Path("/etc/claude-code/managed-settings.json"),
}
OVERRIDING = frozenset([*ours(0, "", "", 1, 1), *ELSEWHERE])
"""Variables that, in a settings file, lead Claude Code elsewhere or change what we told it."""


def settings(case: Case) -> Finding:
    """User, project and managed ones."""
    own = Path(case.environment.get("CLAUDE_CONFIG_DIR") or case.home / ".claude")
    project = case.folder / ".claude"
    files = [own / "settings.json", project / "settings.json", project / "settings.local.json"]
    edited = Settings(Folder(case.settings.data.absolute() / "global").journal)
    return judge_settings(files, MANAGED.get(sys.platform), edited.path if edited.is_on else "")


def judge_settings(files: Iterable[Path], managed: Path | None, edited: str = "") -> Finding:
    """`files`: those that the user may edit; `managed`: the administrator's, which beats whatever we say; `edited`: the
    one that global mode has written, links resolved."""
    if managed and managed.exists() and (names := overriding(_table(managed))):
        text = f"{managed} sets {', '.join(names)}, which beats claude-local"
        return failure(text, "ask whoever manages this machine to take it out")
    seen = 0
    for file in dict.fromkeys(files):
        if not file.exists():
            continue
        seen += 1
        try:
            names = overriding(_table(file))
        except ValueError as error:
            return warning(f"{file} is no JSON ({error}): Claude Code ignores all of it", f"correct {file}")
        except OSError as error:
            return warning(
                f"{file} cannot be read ({error.strerror}), by Claude Code neither", f"ls -ld {file}, chmod u+r it"
            )
        if names and str(file.resolve()) != edited:
            text = f"{file} sets {', '.join(names)}: a claude that a script starts goes there"
            return warning(f"{text}, `claude-local claude` does not", f'take it out of "env" in {file}')
    text = "nothing in settings.json is in the way" if seen else "no settings.json"
    return ok(f"{text}; global mode is on" if edited else text)


def overriding(table: dict[str, Any]) -> list[str]:
    """What in a settings file would override us. Names alone: values may be secrets."""
    env = table.get("env")
    names = sorted(OVERRIDING & env.keys()) if isinstance(env, dict) else []
    return [*names, *(["apiKeyHelper"] if table.get("apiKeyHelper") else [])]


def _table(file: Path) -> dict[str, Any]:
    table = json.loads(file.read_text("utf-8") or "{}")
    if not isinstance(table, dict):
        raise ValueError("not an object")
    return table


def claude(case: Case) -> Finding:
    """The one that a command would run: on PATH, else our private one."""
    try:
        binary = Path(user_command.find("claude", case.environment.get("PATH")))
    except Failure as error:
        if "not executable" in error.reason:
            return failure(error.reason, f"chmod +x {error.reason.partition(':')[0]}")
        binary = install.private(case.settings)
    if not binary.exists():
        return _absent(case)
    try:
        done = subprocess.run(
            [binary, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=VERSION_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return failure(f"{binary} does not run: {error}", install.COMMAND)
    return judge_claude(str(binary), done.returncode, done.stdout + done.stderr)


def judge_claude(binary: str, status: int, said: str) -> Finding:
    """`said`: what `claude --version` did."""
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if status or not match:
        return failure(
            f"{binary} does not run: {(said.strip().splitlines() or ['it said nothing'])[-1]}", install.COMMAND
        )
    here = f"{match[0]} at {binary}"
    if (int(match[1]), int(match[2])) < OLDEST:
        text = f"{here} is old; claude-local is tested with {install.VERSION}"
        return warning(text, f"claude update, or {install.COMMAND}")
    return ok(here)


def _absent(case: Case) -> Finding:
    try:
        user_command.find("npm", case.environment.get("PATH"))
    except Failure:
        fix = "install Node.js (https://nodejs.org, brew install node, apt install npm); other commands do without"
        return warning("there is none on PATH, and no npm to install it with", fix)
    if case.settings.no_install:
        return warning("there is none on PATH, and CLAUDE_LOCAL_NO_INSTALL is set", install.COMMAND)
    return ok(f"none on PATH; the first `claude-local` installs {install.VERSION} for itself")
