"""What the doctor makes of what it sees, also on machines that we do not have."""

import os
import resource
import threading
from pathlib import Path

import pytest

from shim.commands import doctor
from shim.doctor import claude_code, directories, machine, model, network
from shim.doctor.check import Check, Finding, failure, made, ok, told
from shim.doctor.context import Case
from shim.doctor.redact import discreet
from sidecar import __version__
from sidecar.memory.guard import Sample
from sidecar.models.resolve import ModelFiles
from sidecar.shared.config import Config
from sidecar.supervisor import environment as mlx_environment

GB = 10**9
CASE = Case(Config(), "", {}, Path("/home/alice"), Path("/work"))


def test_a_check_that_hangs_is_cut_off_and_one_that_raises_is_not_ok() -> None:
    never = threading.Event()

    def hangs() -> Finding:
        never.wait()
        return ok("")

    def raises() -> Finding:
        raise PermissionError(13, "Permission denied", "/etc/secret")

    hung = made(Check("disk", hangs, 0.01))
    never.set()
    assert hung.level == "failure" and "no answer within 0.01 s" in hung.text and "doctor disk" in hung.fix
    broken = made(Check("disk", raises))
    assert broken.level == "failure" and "could not look: PermissionError" in broken.text and broken.fix
    assert made(Check("disk", lambda: ok("fine"))) == ok("fine")


@pytest.mark.parametrize(
    ("said", "text", "fix"),
    [
        ("It is broken. Mend it.", "It is broken", "Mend it"),
        ("a.toml: unknown key 'x'; did you mean y?", "a.toml: unknown key 'x'", "did you mean y?"),
        ("It is broken", "It is broken", "correct that and try again"),
    ],
)
def test_an_errors_last_sentence_is_what_to_do(said: str, text: str, fix: str) -> None:
    assert told(said) == failure(text, fix)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/alice/.cache and /home/alice2", "~/.cache and /home/alice2"),
        ("/private/home/alice", "~"),
        ("/Volumes/alice/models", "/Volumes/USER/models"),
        ("malice in /tmp/alicealice", "malice in /tmp/alicealice"),
        (f"cl-{'0f' * 32} sk-ant-api03-x hf_abcdefgh", "… … …"),
        ("http://bob:word@proxy:80/", "http://…@proxy:80/"),
        ("Bearer abc.def", "Bearer …"),
        ("/tmp/cl-12-ab", "/tmp/cl-12-ab"),
    ],
)
def test_what_strangers_may_not_read_is_taken_out(text: str, shown: str) -> None:
    assert discreet(text, ["/home/alice", "/private/home/alice/"], "alice") == shown


@pytest.mark.parametrize(
    ("kind", "architecture", "release", "level"),
    [
        ("darwin", "arm64", "15.1", "ok"),
        ("darwin", "arm64", "13.6", "failure"),
        ("darwin", "x86_64", "15.1", "failure"),
        ("linux", "x86_64", "6.1", "ok"),
        ("linux", "aarch64", "6.1", "ok"),
        ("freebsd14", "amd64", "14", "failure"),
    ],
)
def test_the_platform(kind: str, architecture: str, release: str, level: str) -> None:
    found = machine.judge_platform(kind, architecture, "System", release)
    assert found.level == level
    assert __version__ in found.text and bool(found.fix) is (level != "ok")


@pytest.mark.parametrize(
    ("version", "bits", "level"), [("3.11.0", 64, "ok"), ("3.10.9", 64, "failure"), ("3.12.1", 32, "failure")]
)
def test_python(version: str, bits: int, level: str) -> None:
    assert machine.judge_python(version, bits, "/venv").level == level


def about(device: str, right: str = "true") -> str:
    return f'{{"mlx": "1", "mlx_lm": "2", "device": "{device}", "name": "M9", "right": {right}}}'


@pytest.mark.parametrize(
    ("status", "said", "kind", "nvidia", "level", "fix"),
    [
        (0, about("gpu"), "darwin", False, "ok", ""),
        (0, about("cpu"), "darwin", False, "failure", "Mac itself"),
        (0, about("cpu"), "linux", False, "ok", ""),
        (0, about("cpu"), "linux", True, "warning", "mlx[cuda]"),
        (0, about("gpu"), "linux", True, "ok", ""),
        (0, about("gpu", "false"), "linux", True, "failure", "driver"),
        (1, "", "linux", False, "failure", "remove .venv"),
        (-6, "", "darwin", False, "failure", "remove .venv"),
        (0, "", "linux", False, "failure", "remove .venv"),
    ],
)
def test_mlx(status: int, said: str, kind: str, nvidia: bool, level: str, fix: str) -> None:
    found = machine.judge_mlx(status, said, "Traceback\nImportError: no libmlx", kind, nvidia)
    assert found.level == level and fix in found.fix
    assert status == 0 or "no libmlx" in found.text


@pytest.mark.parametrize(("place", "without"), [("/home/a: no space", ""), ("", "no such file"), ("", "")])
def test_mlx_without_compiled_kernels_is_a_warning(place: str, without: str) -> None:
    said = about("cpu").replace("}", f', "without_kernels": "{without}"}}')
    found = machine.judge_mlx(0, said, "", "linux", False, place)
    assert found.level == ("warning" if place or without else "ok")
    assert (place or without) in found.text


def test_openblas_is_found_where_the_system_keeps_it(tmp_path: Path) -> None:
    assert mlx_environment.blas(tmp_path) is None
    library = tmp_path / "x86_64-linux-gnu" / "libopenblas.so.0"
    library.parent.mkdir()
    library.touch()
    assert mlx_environment.blas(tmp_path) == library


@pytest.mark.parametrize(
    ("name", "parameters", "cores", "level", "says"),
    [
        ("qwen3-coder-30b", 30.5, 2, "warning", "too slow for an agent"),
        ("llama-3.2-1b", 1.2, 2, "ok", "numpy's BLAS"),
        ("/models/mine", 0.5, 1, "ok", "on 1 core, about 1.6 tokens/s"),
        ("/models/mine", 4.0, 2, "warning", "too slow"),
    ],
)
def test_what_packed_weights_are_computed_with_is_told_and_what_to_expect(
    name: str, parameters: float, cores: int, level: str, says: str
) -> None:
    found = model.judge_pace(name, parameters, cores)
    assert found.level == level and says in found.text
    assert ("claude-local models" in found.fix) == (level == "warning")


def test_the_pace_is_told_only_where_it_is_a_cpus() -> None:
    demo = model.known("demo")
    absent, default = model.Known("some/one", "some/one", None, None), model.Known("phi-3-mini", "a/b", None, None)
    assert "a GPU" in model.pace(demo, 0).text and "not packed" in model.pace(demo, 2).text
    assert "once some/one is on this disk" in model.pace(absent, 2).text
    assert "about 0.4 tokens/s" in model.pace(default, 2).text


PHI = ModelFiles("/m", 2_149_000_000, 131_072, 393_216, 2, 32)


@pytest.mark.parametrize(
    ("free", "level", "text", "fix"),
    [
        (48 * GB, "ok", "tokens", ""),
        (14 * GB, "ok", "tokens with KV caches in 8 bits (values in 4)", ""),
        (8 * GB, "ok", "tokens with KV caches in 4 bits", ""),
        (5 * GB, "warning", "too few for an agent", "CLAUDE_LOCAL_MODEL="),
        (3 * GB, "failure", "only 3.0 GB of memory are free", "close something (most have browser 3.00 GB)"),
    ],
)
def test_memory(free: int, level: str, text: str, fix: str) -> None:
    found = machine.judge_memory(
        CASE, "phi-3-mini", PHI, PHI.weights_bytes, Sample(free, 32 * GB), [("browser", 3 * GB)]
    )
    assert found.level == level, found
    assert text in found.text and fix in found.fix


def test_a_memory_limit_of_ones_own_is_what_is_to_be_raised() -> None:
    case = CASE._replace(settings=Config(memory_limit_gb=3))
    found = machine.judge_memory(case, "phi-3-mini", PHI, PHI.weights_bytes, Sample(3 * GB, 3 * GB), [])
    assert found.fix.startswith("raise CLAUDE_LOCAL_MEMORY_LIMIT_GB (3)")


@pytest.mark.parametrize(
    ("disks", "missing", "level", "fix"),
    [
        ([(50, 0), (50, 0)], 2, "ok", ""),
        ([(1, 0), (50, 0)], 2, "failure", "HF_HOME"),
        ([(50, 0), (1, 0)], 2, "warning", "cache clear"),
        ([(50, 0), (50, 28)], 2, "failure", "free some space"),
        ([(50, 13), (50, 0)], 2, "failure", "write to"),
        ([(50, 0), (50, 30)], 0, "failure", "write to"),
    ],
)
def test_disks(disks: list[tuple[int, int]], missing: int, level: str, fix: str) -> None:
    seen = [
        directories.Disk(f"use {number}", Path("/x"), free * GB, refused)
        for number, (free, refused) in enumerate(disks)
    ]
    found = directories.judge_disk(seen, missing * GB)
    assert found.level == level and fix in found.fix


@pytest.mark.parametrize(
    ("table", "level"),
    [
        ({"version": __version__, "model": {"name": "m", "state": "ready"}}, "ok"),
        ({"version": __version__, "model": {"name": None, "state": "absent"}}, "ok"),
        ({"version": "0.0.9", "model": {"name": "m", "state": "ready"}}, "warning"),
        ({"version": __version__, "model": {"name": "m", "state": "dead"}}, "failure"),
        ({"version": __version__, "model": {"name": "m", "state": "stuck"}}, "failure"),
    ],
)
def test_a_sidecar_that_runs(table: dict[str, object], level: str) -> None:
    assert directories.judge_status(table, 7).level == level


@pytest.mark.parametrize(
    ("environment", "level", "fix"),
    [
        ({}, "ok", ""),
        ({"https_proxy": "http://p:3128", "no_proxy": "127.0.0.1, localhost"}, "ok", ""),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "*"}, "ok", ""),
        ({"ALL_PROXY": "p:3128"}, "warning", "export NO_PROXY=127.0.0.1,localhost"),
        ({"https_proxy": "http://gone:3128", "no_proxy": "*"}, "failure", "unset https_proxy HTTPS_PROXY"),
        ({"http_proxy": "http://"}, "failure", "export http_proxy=http://HOST:PORT"),
    ],
)
def test_proxies(environment: dict[str, str], level: str, fix: str) -> None:
    found = network.judge_proxies(environment, lambda host, port: (host, port) == ("p", 3128))
    assert found.level == level and fix in found.fix


def test_an_administrators_settings_beat_us_and_their_values_are_not_shown(tmp_path: Path) -> None:
    managed = tmp_path / "managed-settings.json"
    managed.write_text('{"env": {"ANTHROPIC_BASE_URL": "https://secret.example"}, "apiKeyHelper": "/bin/secret"}')
    found = claude_code.judge_settings([], managed)
    assert found.level == "failure" and "ANTHROPIC_BASE_URL, apiKeyHelper" in found.text and "manages" in found.fix
    assert "secret" not in str(found)
    managed.write_text("{}")
    assert claude_code.judge_settings([], managed).level == "ok"


def test_settings_that_cannot_be_read_are_a_warning(tmp_path: Path) -> None:
    found = claude_code.judge_settings([tmp_path], None)
    assert found.level == "warning" and f"{tmp_path} cannot be read (Is a directory)" in found.text


@pytest.mark.parametrize(
    ("status", "said", "level"),
    [(0, "2.1.330 (Claude Code)", "ok"), (0, "3.0.1", "ok"), (0, "1.9.0", "warning"), (1, "2.1.3", "failure")],
)
def test_claude_codes_version(status: int, said: str, level: str) -> None:
    assert claude_code.judge_claude("/bin/claude", status, said).level == level


def test_kernel_panics_are_counted_and_the_gpus_named(tmp_path: Path) -> None:
    day = 86400.0
    assert machine.judge_panics(tmp_path / "absent", 100 * day).level == "ok"
    for name, age, text in (
        ("old", 30, "IOGPUFamily"),
        ("mine", 3, "com.apple.iokit.IOGPUFamily"),
        ("usb", 5, "AppleUSB"),
    ):
        file = tmp_path / f"panic-full-{name}.panic"
        file.write_text(f'{{"panicString": "{text}"}}')
        os.utime(file, ((100 - age) * day,) * 2)
    found = machine.judge_panics(tmp_path, 100 * day)
    assert found.level == "warning"
    assert "2 in the last 14 days, the last one 3 days ago (panic-full-mine.panic)" in found.text
    assert "MEMORY_LIMIT" in found.fix
    (tmp_path / "panic-full-mine.panic").unlink()
    assert "not in the GPU's driver" in machine.judge_panics(tmp_path, 100 * day).text


def test_an_answer_is_one_token() -> None:
    def judged(status: int, said: str, complaints: str = "") -> Finding:
        return model.judge_answer("demo", "", status, said, complaints, Path("/logs"))

    assert judged(0, '{"tokens": 1, "seconds": 0.5}').level == "ok"
    assert judged(0, '{"tokens": 0, "seconds": 0.5}').level == "failure"
    found = judged(75, "", "claude-local: one\nclaude-local: only 0.2 GB are free\n")
    assert found.text == "demo does not answer: only 0.2 GB are free" and "/logs/sidecar.log" in found.fix


@pytest.mark.parametrize(
    ("most", "level", "says"),
    [
        (resource.RLIM_INFINITY, "ok", "as many open files as are needed"),
        (4096, "ok", "4,064 terminals and requests"),
        (1024, "ok", "992 terminals and requests"),
        (256, "warning", "112 connections of one terminal"),
        (40, "warning", "4 connections of one terminal"),
    ],
)
def test_a_low_limit_on_open_files_is_told_with_what_it_means(most: int, level: str, says: str) -> None:
    found = machine.judge_open_files(most)
    assert found.level == level and says in found.text
    assert ("ulimit -Hn" in found.fix) == (level == "warning")


@pytest.mark.parametrize(("kind", "without"), [("linux", "panics"), ("darwin", "openblas")])
def test_every_system_has_its_checks(kind: str, without: str) -> None:
    assert [check.name for check in doctor.checks(CASE, kind)] == [name for name in doctor.NAMES if name != without]
