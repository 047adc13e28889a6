"""The sidecar process alone: start protocol, leases, idle exit, engine supervision.

The contract tests at the top run against the shim tests' fake as well: what the shim relies on is true of both.
"""

import hashlib
import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sidecar.server.app import IN_ALL, PER_TERMINAL
from sidecar.shared.protocol import LEASE_PATH, PROTOCOL, STOP_PATH
from sidecar.shared.run_directory import run_directory
from tests.support.processes import is_running
from tests.support.real_sidecar import FAKE, REAL, TOKEN, Sidecar, UnixConnection
from tests.support.waiting import wait_until


@pytest.fixture
def real(short_dir: Path, tiny: Path) -> Iterator[Sidecar]:
    sidecar = Sidecar(short_dir, REAL, str(tiny))
    yield sidecar
    sidecar.close()


@pytest.fixture(params=[REAL, FAKE], ids=["real", "fake"])
def either(request: pytest.FixtureRequest, short_dir: Path, tiny: Path) -> Iterator[Sidecar]:
    sidecar = Sidecar(short_dir, request.param, str(tiny), CLAUDE_LOCAL_FAKE=json.dumps({"grace": 0.5}))
    yield sidecar
    sidecar.close()


def test_it_says_ready_when_its_socket_is_there_and_private(either: Sidecar) -> None:
    assert either.start() == "ready\n"
    run_directory(str(either.folder))
    assert either.status()["pid"] == either.processes[0].pid


def test_a_lease_is_granted_then_told_the_limits(either: Sidecar) -> None:
    either.start()
    lease = either.lease()
    assert lease.event().event == "granted"  # type: ignore[union-attr]
    loading = lease.until("loading")
    assert loading.context_window > loading.output_limit > 0
    assert lease.until("ready").context_window == loading.context_window
    lease.close()


def test_a_token_is_good_for_as_long_as_its_lease(either: Sidecar) -> None:
    either.start()
    assert connection_status(either) == 401
    lease = either.lease()
    lease.until("granted")
    assert connection_status(either) != 401
    lease.close()
    wait_until(lambda: not either.status()["leases"])
    assert connection_status(either) == 401


def test_it_leaves_when_the_last_lease_is_gone_and_takes_its_socket_along(either: Sidecar) -> None:
    either.start()
    lease = either.lease()
    lease.until("granted")
    lease.close()
    assert either.processes[0].wait(20) == 0
    assert not either.socket.exists()


def test_stop_ends_it(either: Sidecar) -> None:
    either.start()
    assert either.ask("POST", STOP_PATH, {"now": False}) == (200, {"stopping": True, "running": 0})
    assert either.processes[0].wait(20) == 0
    assert not either.socket.exists()


def test_both_describe_themselves_in_the_same_keys(either: Sidecar) -> None:
    either.start()
    lease = either.lease()
    lease.until("ready")
    status = either.status()
    lease.close()
    keys = {"version", "protocol", "pid", "uptime_s", "model", "leases", "requests", "memory", "engine"}
    assert keys <= status.keys()
    assert {"pid", "command", "folder", "port", "strong", "since_s"} <= status["leases"][0].keys()
    assert {"name", "state", "context_window", "output_limit"} <= status["model"].keys()


def connection_status(sidecar: Sidecar) -> int:
    """The status of a request that needs the token; what it asks for does not matter."""
    connection = UnixConnection(sidecar.socket)
    connection.request("GET", "/v1/models", headers={"x-api-key": TOKEN})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_second_one_waits_for_the_first_and_then_serves(real: Sidecar) -> None:
    real.start()
    first = real.processes[0]
    real.ask("POST", STOP_PATH, {"now": True})
    assert real.start() == "ready\n"  # it had to wait for the life lock
    assert first.poll() is not None
    assert real.status()["pid"] == real.processes[1].pid


def test_a_second_one_beside_one_that_serves_says_so_and_goes(real: Sidecar) -> None:
    """As when somebody's start is interrupted, and tried again at once."""
    real.start()
    assert real.start() == "ready\n"
    assert real.processes[1].wait(20) == 0
    assert real.status()["pid"] == real.processes[0].pid


def test_a_killed_one_leaves_nothing_in_the_way(real: Sidecar) -> None:
    real.start()
    lease = real.lease()
    lease.until("ready")
    engine = real.status()["engine"]["pid"]
    real.processes[0].kill()
    wait_until(lambda: not is_running(engine))
    assert real.start() == "ready\n"
    lease = real.lease()
    lease.until("ready")
    assert real.message()[0] == 200


@pytest.mark.full
def test_a_killed_engine_is_replaced_by_the_next_request(real: Sidecar) -> None:
    real.start()
    lease = real.lease()
    lease.until("ready")
    engine = real.status()["engine"]["pid"]
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: real.status()["engine"]["state"] == "dead")
    assert real.message()[0] == 200
    assert real.status()["engine"]["pid"] != engine


@pytest.mark.parametrize(("deaths", "status"), [(2, 200), pytest.param(3, 503, marks=pytest.mark.full)])
def test_a_request_whose_engine_dies_is_answered_by_another_but_not_by_a_fourth(
    real: Sidecar, deaths: int, status: int
) -> None:
    real.start()
    lease = real.lease()
    lease.until("ready")
    connection, killed = None, 0
    for _ in range(deaths):
        wait_until(lambda: real.status()["engine"]["pid"] not in (None, killed))  # noqa: B023  # called at once
        engine = psutil.Process(real.status()["engine"]["pid"])
        if connection is None:
            engine.suspend()  # so that the request is under way for certain
            connection = real.begin(max_tokens=8)
            wait_until(lambda: real.status()["requests"]["running"] == 1)
        engine.kill()
        killed = engine.pid
    assert connection is not None
    answer = connection.getresponse()
    assert answer.status == status
    if status == 503:
        assert answer.getheader("retry-after") in ("1", "5")  # the last may have died while it loaded
        assert json.loads(answer.read())["error"]["type"] == "api_error"


def test_an_engine_that_stands_still_is_replaced_and_what_it_had_not_begun_goes_on(real: Sidecar) -> None:
    """A stopped process is as silent as one that hangs in a kernel."""
    real.start()
    real.lease().until("ready")
    told = real.begin(max_tokens=7000, stream=True).getresponse()
    while b"text_delta" not in told.readline():
        pass
    engine = psutil.Process(real.status()["engine"]["pid"])
    engine.suspend()
    untold, whole = real.begin(max_tokens=4, stream=True), real.begin(max_tokens=4)
    answers = [connection.getresponse() for connection in (untold, whole)]
    assert b"message_stop" in answers[0].read()
    assert answers[1].status == 200 and json.loads(answers[1].read())["content"]
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        told.read()
    assert not engine.is_running()
    assert real.status()["engine"]["pid"] != engine.pid


def test_a_model_that_cannot_be_loaded_is_tried_once_for_all_who_wait(
    real: Sidecar, tiny: Path, tmp_path: Path
) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text().replace("phi3", "no_such_thing"))
    real.model, log = str(tmp_path), tmp_path / "log"
    real.start(log)
    real.lease()
    asked = [real.begin(max_tokens=4) for _ in range(5)]
    answers = [connection.getresponse() for connection in asked]
    assert [answer.status for answer in answers] == [503] * 5
    assert all("no_such_thing" in json.loads(answer.read())["error"]["message"] for answer in answers)
    assert log.read_text().count("cannot load") <= 3  # once for the lease, and for those who came while it failed


def test_a_stream_that_cannot_go_on_is_not_ended_politely(real: Sidecar) -> None:
    real.start()
    lease = real.lease()
    lease.until("ready")
    connection = real.begin(max_tokens=7000, stream=True)
    answer = connection.getresponse()
    while b"text_delta" not in answer.readline():
        pass
    os.kill(real.status()["engine"]["pid"], signal.SIGKILL)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    assert real.status()["pid"] == real.processes[0].pid
    assert real.message()[0] == 200


def test_without_requests_the_engine_goes_and_the_next_request_brings_it_back(real: Sidecar) -> None:
    real.variables["CLAUDE_LOCAL_UNLOAD"] = "0.3"
    real.start()
    lease = real.lease()
    lease.until("ready")
    engine = real.status()["engine"]["pid"]
    wait_until(lambda: real.status()["engine"]["state"] == "absent")
    assert not is_running(engine)
    assert real.message()[0] == 200


def test_an_answer_under_way_is_finished_before_it_leaves(real: Sidecar) -> None:
    real.start()
    lease = real.lease()
    lease.until("ready")
    connection = real.begin(max_tokens=2000, stream=True)
    answer = connection.getresponse()
    while b"text_delta" not in answer.readline():
        pass
    real.processes[0].send_signal(signal.SIGTERM)
    assert b"message_stop" in answer.read()
    assert real.processes[0].wait(20) == 0


def test_stop_now_does_not_wait_for_answers(real: Sidecar) -> None:
    real.start()
    lease = real.lease()
    lease.until("ready")
    real.begin(max_tokens=7000)
    wait_until(lambda: real.status()["requests"]["running"] == 1)
    real.ask("POST", STOP_PATH, {"now": True})
    assert real.processes[0].wait(5) == 0


def test_too_much_at_once_is_refused_and_what_runs_goes_on(real: Sidecar) -> None:
    """429 for a terminal that asks for too much, 529 when all terminals together do: both are tried again by SDKs."""
    real.start()
    tokens = ("one", "two", "three")
    for token in tokens:
        real.lease(token_sha256=hashlib.sha256(token.encode()).hexdigest()).until("ready")
    for number in range(IN_ALL):
        real.begin(max_tokens=7000, token=tokens[number // PER_TERMINAL])
    wait_until(lambda: real.status()["requests"]["running"] == IN_ALL)
    for token, status, kind in (("one", 429, "rate_limit_error"), ("three", 529, "overloaded_error")):
        answer = real.begin(max_tokens=1, token=token).getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["type"]) == (status, kind)
        assert answer.headers["retry-after"] == "1"
    assert real.status()["requests"]["running"] == IN_ALL
    for each in real.opened:
        if isinstance(each, UnixConnection):
            each.close()
    wait_until(lambda: real.status()["requests"]["running"] == 0)


def test_a_client_that_leaves_frees_the_engine(real: Sidecar) -> None:
    real.start()
    lease = real.lease()
    lease.until("ready")
    connection = real.begin(max_tokens=7000)
    wait_until(lambda: real.status()["requests"]["running"] == 1)
    connection.close()
    wait_until(lambda: real.status()["requests"]["running"] == 0, seconds=5)
    assert real.processes[0].poll() is None
    began = time.monotonic()
    assert real.message()[0] == 200
    assert time.monotonic() - began < 20  # it did not queue behind 7000 tokens nobody reads


def test_two_models_take_turns_and_are_never_both_in_memory(real: Sidecar, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in Path(real.model).iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    real.variables["CLAUDE_LOCAL_TEMPERATURE"] = "0.4"
    real.start()
    lease = real.lease()
    lease.until("ready")
    first = real.status()["engine"]["pid"]
    assert real.message(model=str(other))[0] == 200
    shown = real.status()["model"]
    assert (shown["name"], shown["sampling"]["temperature"], shown["sampling"]["by"]) == (str(other), 0.4, "user")
    assert not is_running(first)


@pytest.mark.parametrize(
    ("plant", "exit_code", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), 66, "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), 65, "cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), 66, "model.safetensors is missing"),
        (lambda folder: os.truncate(folder / "model.safetensors", 1000), 65, "corrupt"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"not weights"), 65, "corrupt"),
    ],
)
def test_a_model_that_is_not_whole_is_named_before_the_command_starts(
    real: Sidecar, tmp_path: Path, plant: Any, exit_code: int, says: str
) -> None:
    for file in Path(real.model).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    plant(tmp_path)
    real.start()
    lease = real.lease(model=str(tmp_path))
    while (event := lease.event()) and event.event != "failed":
        pass
    assert event is not None and event.exit_code == exit_code and says in event.reason


def test_another_version_is_refused_while_a_terminal_is_open_and_nobody_is_disturbed(real: Sidecar) -> None:
    real.start()
    lease = real.lease()
    lease.until("granted")
    refused = real.lease(protocol=999).event()
    assert refused is not None and refused.event == "refused" and "claude-local stop" in refused.reason
    assert real.processes[0].poll() is None
    assert lease.until("ready")


def test_another_version_takes_over_when_nobody_is_there(real: Sidecar) -> None:
    """Even when its request holds nothing that this one knows."""
    real.variables |= {"CLAUDE_LOCAL_GRACE": "60"}
    real.start()
    status, body = real.ask("POST", LEASE_PATH, {"protocol": 999, "who": "a newer one"})
    assert (status, body) == (200, {"event": "retry", "protocol": PROTOCOL})
    assert real.processes[0].wait(10) == 0


def test_a_log_that_grew_is_put_aside_and_written_anew(real: Sidecar, tmp_path: Path) -> None:
    real.variables |= {"CLAUDE_LOCAL_LOG_DIR": str(tmp_path)}
    (tmp_path / "sidecar.log").write_bytes(b"x" * 2_000_001)
    (tmp_path / "relay.log").write_bytes(b"small")
    real.start(tmp_path / "sidecar.log")
    wait_until((tmp_path / "sidecar.log.1").exists)
    real.ask("POST", STOP_PATH, {"now": True})
    assert real.processes[0].wait(10) == 0
    assert b"leaves" in (tmp_path / "sidecar.log").read_bytes()
    assert (tmp_path / "relay.log").read_bytes() == b"small"


def test_a_socket_that_was_removed_is_published_again(real: Sidecar) -> None:
    real.variables |= {"CLAUDE_LOCAL_GRACE": "60"}
    real.start()
    real.socket.unlink()
    wait_until(real.socket.exists, seconds=30)
    assert real.status()["pid"] == real.processes[0].pid


HUGE_NUMBER = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 10**25}}}


STRANGE: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"model": "/x\0y"}, (400,)),
    ({"model": "x" * 200_000}, (400,)),
    ({"max_tokens": 10**30}, (400,)),
    ({"top_k": 10**30}, (400,)),
    ({"tools": [{"name": "t", "input_schema": HUGE_NUMBER}]}, (200, 400)),
    ({"model": "/no/such/model"}, (404,)),
    ({"messages": [{"role": "user", "content": "a\ud800b"}]}, (200, 400)),
    ({"stop_sequences": ["x" * 100_000]}, (200, 400)),
]


def test_strange_requests_end_nobody_but_themselves(real: Sidecar) -> None:
    real.start()
    real.lease().until("ready")
    engine = real.status()["engine"]["pid"]
    for fields, statuses in STRANGE:
        said = f"{fields!r:.80}"
        assert real.message(**fields)[0] in statuses, said
        assert real.message()[0] == 200, said
        assert (real.status()["pid"], real.status()["engine"]["pid"]) == (real.processes[0].pid, engine), said


def test_without_grace_it_waits_for_whoever_started_it(real: Sidecar) -> None:
    real.variables["CLAUDE_LOCAL_GRACE"] = "0"
    real.start()
    lease = real.lease()
    lease.until("granted")
    lease.close()
    assert real.processes[0].wait(20) == 0


def test_a_run_directory_that_was_taken_away_is_left_to_the_next(real: Sidecar) -> None:
    """Two sidecars must never fight over one socket, nor hold two models."""
    real.variables["CLAUDE_LOCAL_GRACE"] = "60"
    real.start()
    first = real.processes[0]
    first.send_signal(signal.SIGSTOP)  # or it might be faster than the next and put everything back
    for file in real.folder.iterdir():
        file.unlink()
    assert real.start() == "ready\n"
    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 0
    assert real.status()["pid"] == real.processes[1].pid


def test_a_request_over_whose_preparation_an_engine_has_crashed_is_not_asked_again(real: Sidecar) -> None:
    """Nor does it end a second one, and others are served."""
    real.start()
    real.lease().until("ready")
    engine = psutil.Process(real.status()["engine"]["pid"])
    engine.suspend()
    connection = real.begin(max_tokens=8)
    wait_until(lambda: real.status()["requests"]["running"] == 1)
    assert real.status()["requests"]["running"] == 1  # by now it has been sent
    engine.send_signal(signal.SIGSEGV)
    engine.resume()
    answer = connection.getresponse()
    assert answer.status == 400
    assert "the engine has died while it prepared this very request" in json.loads(answer.read())["error"]["message"]
    assert real.message("something else")[0] == 200
    after = real.status()["engine"]["pid"]
    assert after != engine.pid
    assert real.begin(max_tokens=8).getresponse().status == 400
    assert real.status()["engine"]["pid"] == after


SPINNING = "{% if 'SPIN' in messages[-1]['content'] %}{% set x = 7 ** (messages | length * 10 ** 8) %}{% endif %}"
"""Python computes this power in one go, for minutes, and lets no other thread run. It depends on the messages, or it
would be computed when the template is compiled."""


@pytest.mark.full
def test_a_request_that_lets_no_thread_of_the_engine_run_ends_one_and_is_then_refused(
    real: Sidecar, tiny: Path, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    model = tmp_path / "spinning"
    shutil.copytree(tiny, model)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["chat_template"] = SPINNING + config["chat_template"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    real.model = str(model)
    real.start()
    real.lease().until("ready")
    engine = real.status()["engine"]["pid"]
    began = time.monotonic()
    status, said = real.message("SPIN")
    figure(f"ended after {time.monotonic() - began:.1f} s")
    assert status == 503 and "the engine was stuck" in said["error"]["message"]
    assert real.message("hello")[0] == 200
    second = real.status()["engine"]["pid"]
    assert second != engine
    status, said = real.message("SPIN")
    assert status == 400 and "the engine has died" in said["error"]["message"]
    assert real.status()["engine"]["pid"] == second and real.message("hello")[0] == 200
