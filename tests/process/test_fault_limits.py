"""Where a process may open few files, as in containers and under careful administrators: it works all the same."""

import ctypes
import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.real_place import RealPlace

PR_CAPBSET_DROP, CAP_SYS_RESOURCE = 24, 24
"""<linux/prctl.h>, <linux/capability.h>: with it root may raise a hard limit, outside of most containers."""

ASK = """
import json, os, resource, urllib.request
body = json.dumps({"model": "claude-any", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}).encode()
headers = {"authorization": "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"], "content-type": "application/json"}
asked = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", body, headers)
answer = json.load(urllib.request.urlopen(asked))
print(json.dumps([resource.getrlimit(resource.RLIMIT_NOFILE)[1], answer["stop_reason"]]))
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RealPlace]:
    place = RealPlace(tmp_path)
    yield place
    place.clean()


def limited(most: int) -> Callable[[], None]:
    """What a child does before it becomes a command: `ulimit -Hn`, as somebody who cannot take it back."""

    def act() -> None:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    return act


@pytest.mark.parametrize("most", [256, pytest.param(1024, marks=pytest.mark.full)])
def test_the_first_answer_comes_under_a_low_limit_on_open_files(place: RealPlace, most: int) -> None:
    done = place.call(sys.executable, "-IS", "-c", ASK, preexec_fn=limited(most), timeout=200)
    assert done.returncode == 0, done.stderr
    limit, reason = json.loads(done.stdout)
    assert limit == most and reason in ("end_turn", "max_tokens")
    doctor = place.call("doctor", "limits", preexec_fn=limited(most)).stdout
    assert doctor.startswith("warning" if most == 256 else "ok") and f"{most:,} open files" in doctor
