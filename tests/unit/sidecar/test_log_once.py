"""What deserves a line in the log gets one, however often it happens."""

import pytest

from sidecar.requests.log_once import KEPT, Once


def test_a_remark_is_made_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    once = Once()
    for _ in range(3):
        once.say("a")
        once.say("b")
    assert [record.message for record in caplog.records] == ["a", "b"]


def test_remarks_do_not_pile_up() -> None:
    once = Once()
    for number in range(3 * KEPT):
        once.say(str(number))
    assert len(once._said) == KEPT
