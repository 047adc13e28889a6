"""The table of agents, and what is made of a row of it; which program a command line means."""

import json
from pathlib import Path

import pytest

from shim.agents import launchers, program, row, setting, table
from shim.agents.folder import Folder, sweep
from shim.agents.row import Row
from shim.claude_code.environment import ours
from shim.errors import UNAVAILABLE, USAGE, Failure

ADDED = ours(4711, "cl-secret", "org/model", 8000, 2000)

LINES = {
    "opencode run hi": ("opencode", 0),
    "/usr/local/bin/opencode": ("opencode", 0),
    "kilocode": ("kilo", 0),
    "env A=b opencode run": ("opencode", 2),
    "env -C /tmp A=b B=c opencode": ("opencode", 5),
    "nice -n 5 timeout 10 opencode": ("opencode", 5),
    "nice -n5 nohup opencode": ("opencode", 3),
    "timeout --signal=INT 10 pi": ("pi", 3),
    "npx opencode-ai run": ("opencode", 1),
    "npx -y @openai/codex@0.171.0 exec": ("codex", 2),
    "npx --package=@openai/codex codex": ("codex", 2),
    "npm exec -- @google/gemini-cli": ("gemini", 3),
    "bunx @github/copilot": ("copilot", 1),
    "bun x cline": ("cline", 2),
    "pnpm dlx @kilocode/cli@latest": ("kilo", 2),
    "uvx --from aider-chat aider": ("aider", 3),
    "uvx --python=3.12 llm@0.36": ("llm", 2),
    "uv tool run mini-swe-agent": ("mini", 3),
    "pipx run aider-chat": ("aider", 2),
    "python -m aider --message x": ("aider", 2),
    "python3.12 -X dev -Im aider": ("python3.12", 0),
    "python3.12 -I -m aider.main": ("aider", 3),
    "npx @anthropic-ai/claude-code -p hi": ("claude", 1),
    "env X=1 claude": ("claude", 2),
    # What is not certain means its first word.
    "npx -c opencode": ("npx", 0),
    "npm exec opencode-ai": ("npm", 0),
    "env -S opencode": ("env", 0),
    "sh -c opencode": ("sh", 0),
    "timeout 10": ("timeout", 0),
    "python x.py": ("python", 0),
    "node pi.js": ("node", 0),
    "python -m": ("python", 0),
    "make pi": ("make", 0),
    "npx": ("npx", 0),
}


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_means_the_program_that_it_starts_in_the_end(line: str) -> None:
    found = program.read(line.split())
    assert (found.name, found.at) == LINES[line]


@pytest.mark.parametrize(
    ("line", "drops"),
    [
        ("sudo -u bob codex", "sudo"),
        ("sudo -E env A=b opencode", "sudo"),
        ("env -i opencode", "env"),
        ("env -u PATH opencode", "env"),
        ("env A=b opencode", ""),
        ("nice sudo opencode", "sudo"),
    ],
)
def test_a_launcher_that_takes_variables_away_is_noticed(line: str, drops: str) -> None:
    assert program.read(line.split()).drops == drops


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("lib/node_modules/@openai/codex/bin/codex.js", "codex"),
        ("lib/node_modules/opencode-ai/bin/opencode", "opencode"),
        ("lib/node_modules/@anthropic-ai/claude-code/cli.js", "claude"),
        ("share/claude/versions/2.1.330", "claude"),
        ("bin/opencode", "opencode"),
        ("bin/something", "mine"),
    ],
)
def test_a_link_means_what_it_leads_to(path: str, name: str, tmp_path: Path) -> None:
    target = tmp_path / path
    target.parent.mkdir(parents=True)
    target.touch()
    (tmp_path / "mine").symlink_to(target)
    assert program.linked(program.read(["mine"]), str(tmp_path / "mine")).name == name


def test_a_script_of_node_is_known_by_its_package_not_by_its_name(tmp_path: Path) -> None:
    inside = tmp_path / "node_modules" / "@openai" / "codex" / "bin" / "codex.js"
    inside.parent.mkdir(parents=True)
    inside.touch()
    (tmp_path / "codex").symlink_to(inside)
    assert program.read(["node", str(tmp_path / "codex")]).name == "codex"
    (tmp_path / "pi").touch()
    assert program.read(["node", str(tmp_path / "pi")]).name == "node"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("python x.py", True),
        ("make", True),
        ("opencode", True),
        ("claude", False),
        ("env A=b claude -p hi", False),
        ("bash", False),
        ("bash -l", False),
        ("tmux", False),
        ("sh -c 'python x.py'", True),
        ("bash build.sh", True),
        ("sh -c claude", False),
        ("sh -c 'cd x && exec ~/bin/claude --print hi'", False),
        ("sh -c '(claude;)'", False),
        ("sh -c 'npx @anthropic-ai/claude-code@latest'", False),
        ("sh -c 'python ~/.claude/x.py'", True),
        ("bash run-claude.sh", True),
    ],
)
def test_the_key_is_the_token_where_no_claude_will_ask_about_it(line: str, key: bool) -> None:
    import shlex

    words = shlex.split(line)
    started = program.read(words)
    assert program.takes_key(started, words[started.at + 1 :]) is key
    assert ours(1, "cl-t", "m", key=key)["ANTHROPIC_API_KEY"] == ("cl-t" if key else "")


def test_packages_are_known_without_their_versions() -> None:
    names = {"@a/b@1.2": "@a/b", "a@latest": "a", "a[b]==1.2": "a", "a>=1": "a", "@a/b": "@a/b"}
    assert {name: launchers.package(name) for name in names} == names


# Rows


@pytest.mark.parametrize("name", table.ROWS)
def test_a_row_refuses_or_sets_up_and_shows_no_token(name: str) -> None:
    """Everybody can read arguments; and each gap of a row is one that is filled."""
    made = table.ROWS[name]
    assert bool(made.refusal) != bool(made.variables or made.merged or made.arguments)
    assert "<token>" not in "".join(made.arguments)
    whole = json.dumps(
        row.filled([made.variables, made.merged, made.arguments, made.files], setting.gaps_of(ADDED, "/f"))
    )
    assert not [gap for gap in ("url", "token", "model", "window", "output", "input", "folder") if f"<{gap}>" in whole]
    assert bool(made.files) == ("<folder>" in json.dumps([made.variables, made.arguments]))
    assert set(made.beneath) <= set(made.files)


def test_no_two_rows_have_a_name_in_common() -> None:
    named = [alias for name, each in table.ROWS.items() for alias in {name, *each.names, *each.packages}]
    assert len(named) == len(set(named))


def test_a_gap_that_is_a_whole_text_keeps_its_kind() -> None:
    gaps = {"window": 8000, "model": "m"}
    assert row.filled({"<model>": ["<window>", "up to <window>", True]}, gaps) == {"m": [8000, "up to 8000", True]}


def test_ours_is_laid_over_the_users_value_by_value() -> None:
    theirs = {"a": {"x": 1, "y": 2}, "b": [1], "c": 3}
    assert row.laid_over(theirs, {"a": {"y": 9}, "b": [2]}) == {"a": {"x": 1, "y": 9}, "b": [2], "c": 3}
    assert row.laid_over([1], {"a": 1}) == {"a": 1}


def test_an_agents_files_are_private_and_go_with_the_relay(tmp_path: Path) -> None:
    made = Row(files={"a.json": {"key": "<token>"}, "b": "at <url>"}, arguments=("--config", "<folder>/a.json"))
    agent = setting.Agent("x", made, ["hi"], {}, tmp_path)
    arguments = agent.arguments(ADDED)
    folder = Path(arguments[1]).parent
    assert (arguments[0], arguments[2:]) == ("--config", ["hi"])
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert json.loads((folder / "a.json").read_text()) == {"key": "cl-secret"}
    assert (folder / "b").read_text() == "at http://127.0.0.1:4711"
    assert agent.held and agent.held[0] == str(folder)


def test_a_folder_is_swept_once_nobody_holds_it(tmp_path: Path) -> None:
    import os

    folder = Folder(tmp_path)
    folder.write("a", "b")
    os.utime(folder.path, (0, 0))
    sweep(tmp_path)
    assert folder.path.exists()
    os.close(folder.held[1])
    sweep(tmp_path)
    assert not folder.path.exists()


def test_a_users_own_file_stays_beneath_ours(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.json"
    theirs.write_text('{"theme": "dark", "telemetry": true}')
    for path, expected in ((theirs, {"theme": "dark", "telemetry": False}), (tmp_path / "none", {"telemetry": False})):
        made = Row(files={"a": {"telemetry": False}}, beneath={"a": str(path)}, arguments=("<folder>/a",))
        [written] = setting.Agent("x", made, [], {}, tmp_path).arguments(ADDED)
        assert json.loads(Path(written).read_text()) == expected
    assert theirs.read_text() == '{"theme": "dark", "telemetry": true}'


def test_a_variable_of_the_users_is_merged_and_that_is_said(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    theirs = {"theme": "dark", "model": "openai/gpt", "provider": {"openai": {}}, "enabled_providers": ["openai"]}
    environment = {"OPENCODE_CONFIG_CONTENT": json.dumps(theirs)}
    agent = setting.Agent("opencode", table.ROWS["opencode"], ["run"], environment, tmp_path)
    whole = json.loads(agent.variables(ADDED)["OPENCODE_CONFIG_CONTENT"])
    assert (whole["theme"], whole["model"]) == ("dark", "claude-local/org/model")
    assert whole["enabled_providers"] == ["claude-local"]
    assert set(whole["provider"]) == {"openai", "claude-local"}
    assert "OPENCODE_CONFIG_CONTENT" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_variable_that_is_no_table_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"OPENCODE_CONFIG_CONTENT: not JSON|not a JSON object") as caught:
        setting.Agent("opencode", table.ROWS["opencode"], [], {"OPENCODE_CONFIG_CONTENT": text}, tmp_path)
    assert caught.value.exit_code == USAGE


ASTRAY = {
    "pi --provider openai": "--provider",
    "pi -p --model openai/gpt-4o hi": "--model openai/gpt-4o",
    "pi --models=sonnet": "--models sonnet",
    "qwen --auth-type openai": "--auth-type",
    "qwen --authType=openai": "--authType",
    "qwen -m big": "-m",
    "cn --config mine.yaml": "--config",
    "cn remote": "remote",
    "aider --model gpt-4o": "--model gpt-4o",
    "aider --weak-model=gpt-4o-mini": "--weak-model gpt-4o-mini",
    "aider --weak-mod gpt-4o-mini": "--weak-mod gpt-4o-mini",
    "aider --4o": "--4o",
    "llm -m gpt-4o hi": "-m gpt-4o",
    "llm -mgpt-4o hi": "-mgpt-4o gpt-4o",
    "llm embed -c x": "embed",
    "mini -m openai/gpt-5": "-m openai/gpt-5",
    "cline -P openai": "-P",
    "goose run --provider openai": "--provider",
    "crush --model openai/x": "--model",
}
HOME_BOUND = (
    "pi --model claude-local/org/model",
    "pi -p -- --provider openai",
    "aider --model anthropic/org/model",
    "aider --model claude-sonnet-4-5",
    "llm -m anthropic/claude-opus-4-5 hi",
    "llm remote",
    "qwen -p hello",
    "cn -p hello",
)


@pytest.mark.parametrize("line", ASTRAY)
def test_a_users_choice_of_another_model_is_refused(line: str) -> None:
    name, *given = line.split()
    made = table.ROWS[name]
    assert setting.astray(made, given) == ASTRAY[line]
    with pytest.raises(Failure, match=r"another model than the one on this machine.*--local-anyway") as caught:
        setting.refuse(name, made, given)
    assert caught.value.exit_code == UNAVAILABLE


@pytest.mark.parametrize("line", HOME_BOUND)
def test_a_users_choice_that_comes_here_is_left(line: str) -> None:
    name, *given = line.split()
    setting.refuse(name, table.ROWS[name], given)


def test_a_projects_settings_that_would_overrule_ours_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    setting.refuse("crush", table.ROWS["crush"], [])
    (tmp_path / ".crush.json").touch()
    with pytest.raises(Failure, match=r"\.crush\.json would overrule"):
        setting.refuse("crush", table.ROWS["crush"], [])
