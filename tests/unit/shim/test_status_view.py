"""What a status shows, from a table as the sidecar sends it."""

from typing import Any

import pytest
from rich.console import Console

from shim.commands.status.status_view import BAR, bar, fitting, overview, shortened, span

MODEL = {"name": "phi-3-mini", "state": "ready", "context_window": 25_000, "cache_bytes": 2_000_000_000}
MEMORY = {"status": "Safe", "available_gb": "4.00", "total_gb": 16.0, "used_gb": "2.50"}


def shown(table: dict[str, Any], width: int = 120) -> str:
    console = Console(width=width, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(overview(table, "/home/me"))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_nothing_is_needed() -> None:
    """An older or newer sidecar may leave anything out."""
    assert shown({}).startswith("claude-local ?")


def test_a_model_is_described_with_its_caches_and_why_streams_take_turns() -> None:
    more = {"weights_bytes": 2_300_000_000, "kv_bits": "8", "one_by_one": "ChunkedKVCache cannot be batched"}
    line = "phi-3-mini ready, 2.30 GB, context 25,000 tokens, KV caches in 8 bits, one stream at a time (ChunkedKVCache"
    assert line in shown({"model": MODEL | more})
    assert shown({"model": MODEL}).endswith("phi-3-mini ready, context 25,000 tokens")
    assert shown({"model": MODEL | {"kv_bits": "8/4"}}).endswith(", KV caches in 8 bits (values in 4)")


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (
            {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "by": "model"},
            "temperature 0.6, top_p 0.95, top_k 20 of the",
        ),
        (
            {"temperature": 0.6, "top_p": 1.0, "top_k": 0, "by": "model"},
            "temperature 0.6 of the model's generation_con",
        ),
        ({"temperature": 0.0, "top_p": 0.9, "top_k": 9, "by": "user"}, "temperature 0 as you have set it"),
        ({"temperature": 0.0, "top_p": 1.0, "top_k": 0, "by": "ours"}, "temperature 0 of ours, since the model's"),
        ({"temperature": 0.5, "by": "somebody"}, "temperature 0.5"),
    ],
)
def test_what_is_sampled_with_is_said_and_whence(sampling: dict[str, Any], said: str) -> None:
    assert f", context 25,000 tokens, {said}" in shown({"model": MODEL | {"sampling": sampling}}, 200)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("absent", "not in memory: the next request loads it"),
        ("dead", "ended: the next request starts it again"),
        ("new", "new"),
    ],
)
def test_the_states_of_the_engine_are_said_in_words(state: str, said: str) -> None:
    assert f"none yet {said}" in shown({"model": {"name": None, "state": state}})


def test_memory_has_a_bar_a_level_and_what_was_done_for_want_of_it() -> None:
    text = shown({"memory": MEMORY})
    assert f"memory  {'━' * 15}─────  safe, 4.0 of 16.0 GB free, 2.50 GB ours" in text
    assert "caches given back: 2, requests refused: 1" in shown({"memory": MEMORY | {"shed": 2, "refused": 1}})


def test_the_cache_says_how_full_it_is_and_how_much_was_known() -> None:
    memory = MEMORY | {"prefixes": {"memory_bytes": 500_000_000, "disk_bytes": 3_200_000_000}}
    tokens = {"from_memory": 940, "from_disk": 5, "read": 55}
    text = shown({"model": MODEL, "memory": memory, "tokens": tokens})
    assert f"{'━' * 5}{'─' * 15}  0.50 GB of 2.00 GB, 3.20 GB on disk, 94 % hits" in text


def test_streams_show_their_terminal_their_progress_and_their_speed() -> None:
    begun = {"prompt_tokens": 12000, "read_tokens": 12000, "output_tokens": 0, "tokens_per_s": 0.0}
    streams = [
        begun | {"pid": 11, "priority": "main", "doing": "reading", "read_tokens": 6000, "tokens_per_s": 410.2},
        begun | {"pid": 12, "priority": "subagent", "doing": "writing", "output_tokens": 311, "tokens_per_s": 34.3},
        begun | {"pid": 99, "priority": "main", "doing": "writing"},
    ]
    leases = [{"pid": 11, "command": "claude"}, {"pid": 12, "command": "python"}]
    lines = shown({"requests": {"streams": streams}, "leases": leases}).splitlines()
    assert "speed  reading 410 tokens/s, writing 34 tokens/s" in lines
    assert [line.split() for line in lines[-3:]] == [
        ["claude", "main", "reading", "━━━━━─────", "50", "%", "6,000", "of", "12,000", "410/s"],
        ["python", "subagent", "writing", "311", "34/s"],
        ["-", "main", "writing", "0"],
    ]


def test_those_that_wait_are_told_how_long() -> None:
    waiting = {"pid": 11, "priority": "main", "prompt_tokens": 900, "waited_s": 3, "expected_s": 61}
    text = shown({"requests": {"running": 16, "waiting": 7, "total": 40, "queue": [waiting] * 7}})
    assert "16 running, 7 waiting, 40 in all" in text
    assert text.count("waits 3 s, begins in about 1 min 1 s") == 5
    assert "and 2 more" in text


def test_the_last_prompts_say_where_their_tokens_came_from_and_why_they_were_read() -> None:
    known = {"priority": "main", "from_memory": 12000, "from_disk": 0, "read": 80, "first_token_s": 0.42, "why": ""}
    missed = known | {"from_memory": 0, "from_disk": 900, "why": "tool Run: its schema"}
    lines = shown({"recent": [known] * 9 + [missed]}).splitlines()
    assert [line.split(maxsplit=6) for line in lines[-3:]] == [
        ["main", "12,000", "0", "80", "0.42", "s"],
        ["main", "12,000", "0", "80", "0.42", "s"],
        ["main", "0", "900", "80", "0.42", "s", "tool Run: its schema"],
    ]


def test_without_a_stream_the_speed_is_the_last_answers() -> None:
    last = {"first_token_s": 0.42, "wrote_s": 2.0, "output_tokens": 80}
    assert "the last answer began after 0.42 s and was written at 40 tokens/s" in shown({"recent": [last]})


def test_what_a_command_has_left_running_is_said_to_be_in_the_background() -> None:
    lease = {"pid": 13, "command": "tmux", "folder": "/home/me/a", "port": 41000, "since_s": 9, "strong": False}
    assert "tmux (in background)  ~/a     41000  13   9 s" in shown({"leases": [lease]})


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_folder_is_cut(width: int) -> None:
    folder = "/srv/" + "deep/" * 30 + "end"
    text = shown({"model": MODEL, "memory": MEMORY, "leases": [{"command": "claude", "folder": folder}]}, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (61, "1 min 1 s"), (7261, "2 h 1 min"), (90061, "1 d 1 h"), (None, "?")]
)
def test_a_duration_has_two_units(seconds: object, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.parametrize(("part", "full"), [(0, 0), (0.5, BAR // 2), (1, BAR), (7, BAR), (-1, 0)])
def test_a_bar_never_leaves_its_place(part: float, full: int) -> None:
    assert bar(part, 1, "").plain == "━" * full + "─" * (BAR - full) + "  "


def test_the_users_folder_is_a_tilde() -> None:
    assert [shortened(folder, "/home/me") for folder in ("/home/me", "/home/me/a", "/home/mean", "/")] == [
        "~",
        "~/a",
        "/home/mean",
        "/",
    ]
    assert shortened("/a", "") == "/a"


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"pictures": 1, "documents": 0}, "remarks  1 picture became remarks: this model reads text only"),
        (
            {"pictures": 3, "documents": 2},
            "remarks  3 pictures and 2 documents became remarks: this model reads text only",
        ),
    ],
)
def test_what_the_model_could_not_read_is_said(counts: dict[str, int], line: str) -> None:
    assert line in shown({"remarks": counts})
    assert "remarks" not in shown({"remarks": dict.fromkeys(counts, 0)})


def busy(terminals: int, streams: int) -> dict[str, Any]:
    """So many terminals, of which the last ones ask."""
    leases = [
        {"pid": pid, "command": f"sh{pid}", "folder": "/work", "port": 1, "since_s": 5} for pid in range(terminals)
    ]
    reading = {"doing": "reading", "priority": "main", "prompt_tokens": 9, "read_tokens": 3, "output_tokens": 0}
    asked = [{**reading, "tokens_per_s": 5.0, "pid": terminals - 1 - number} for number in range(streams)]
    last = {"priority": "main", "output_tokens": 5, "first_token_s": 0.5, "wrote_s": 1.0}
    counts = {"running": streams, "waiting": 0, "total": 99, "queue": [], "streams": asked}
    return {"model": MODEL, "memory": MEMORY, "leases": leases, "requests": counts, "recent": [last] * 3}


@pytest.mark.parametrize(("terminals", "streams"), [(18, 1), (18, 5), (40, 18), (3, 1)])
def test_a_screen_of_80_columns_and_24_lines_keeps_requests_in_sight(terminals: int, streams: int) -> None:
    console = Console(width=80, height=24, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(fitting(busy(terminals, streams), "/home/me", console, 22))
    lines = capture.get().splitlines()
    assert len(lines) <= 22
    assert any(line.startswith("request ") for line in lines) and "reading" in capture.get()
    shown = [line.split()[0] for line in lines if line.startswith("sh")]
    assert f"sh{terminals - 1}" in shown, "who asks is shown before who does not"
    assert ("more" in capture.get()) is (terminals > 3)


def test_what_others_have_written_cannot_move_the_cursor() -> None:
    lease = {"pid": 1, "command": "a\x1b[2Jb", "folder": "/tmp/a\nb\x1b]0;title\x07\u202e", "port": 1, "since_s": 5}
    text = shown({"model": MODEL | {"name": "m\x1b[31m"}, "leases": [lease]})
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    assert "a?[2Jb" in text and "/tmp/a?b?]0;title??" in text
