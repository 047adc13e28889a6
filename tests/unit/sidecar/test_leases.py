"""When the sidecar and its engine may go."""

import msgspec

from sidecar.server.leases import FIRST_LEASE_S, Leases
from sidecar.shared.config import NEVER
from sidecar.shared.protocol import LeaseRequest


def leases(grace: float = 10, unload: float = 100) -> Leases:
    return Leases(grace, unload, last_use=0)


def request(token: str = "t", strong: bool = True) -> LeaseRequest:
    return LeaseRequest(token, 1, "c", "/", 2, "demo", strong)


def test_nobody_at_all_ends_it_but_not_before_whoever_started_it_can_come() -> None:
    assert leases().exit_at == leases(grace=0).exit_at == FIRST_LEASE_S


def test_without_grace_it_ends_with_the_last_lease() -> None:
    state = leases(grace=0)
    state.release(state.grant(request(), now=1), now=2)
    assert state.exit_at == 2


def test_a_strong_lease_holds_it_and_the_grace_period_starts_at_its_release() -> None:
    state = leases()
    lease = state.grant(request(), now=1)
    assert state.exit_at == NEVER
    state.release(lease, now=500)
    assert state.exit_at == 510


def test_a_soft_lease_does_not_hold_it_but_its_requests_do() -> None:
    state = leases()
    state.grant(request(strong=False), now=1)
    assert state.exit_at == 11
    state.begin(now=5)
    assert state.exit_at == NEVER
    state.end(now=8)
    assert state.exit_at == 18


def test_a_token_is_valid_for_as_long_as_one_of_its_leases_lives() -> None:
    state = leases()
    strong, soft = state.grant(request(), 0), state.grant(request(strong=False), 1)
    state.release(strong, 2)
    assert state.find("t") is soft
    state.release(soft, 3)
    assert state.find("t") is None and list(state) == []


def test_open_terminals_without_requests_let_the_engine_go() -> None:
    state = leases()
    state.grant(request(), now=1)
    assert state.unload_at == 101
    state.begin(now=50)
    assert state.unload_at == NEVER
    state.end(now=60)
    assert (state.unload_at, state.served, state.running) == (160, 1, 0)


def test_never_is_never() -> None:
    assert leases(grace=NEVER).exit_at == NEVER


def test_a_folder_whose_name_is_no_text_can_be_shown() -> None:
    """One terminal there must not take the status away from all others."""
    lease = leases().grant(request()._replace(folder="/home/n\udcff", command="c\udcff"), now=1)
    shown = msgspec.json.decode(msgspec.json.encode(lease.describe(now=2)))
    assert (shown["folder"], shown["command"]) == ("/home/n?", "c?")
