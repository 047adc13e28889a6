"""The sidecar with another pace: CLAUDE_LOCAL_BENCH_PACE="SLICE_SECONDS SHARE" instead of the engine's constants.

Started by the arrival bench in place of the sidecar's own module; starts its engines through this file as well.
"""

import os
import sys
from typing import Any

import trio

VARIABLE = "CLAUDE_LOCAL_BENCH_PACE"


def serve() -> None:
    from sidecar import serve

    original = trio.lowlevel.open_process

    async def open_process(command: list[str], **options: Any) -> trio.Process:
        if "sidecar.engine.worker" in command:
            command = [sys.executable, "-I", __file__, command[-1]]
        return await original(command, **options)

    trio.lowlevel.open_process = open_process  # type: ignore[assignment]  # narrower: the one way it is called
    serve.main()


def work() -> None:
    from sidecar.engine import worker
    from sidecar.engine.scheduling import step_plan

    slice_, share = os.environ[VARIABLE].split()
    assert hasattr(step_plan, "SLICE_S") and hasattr(step_plan, "SHARE"), "the pace is spelled otherwise now"
    step_plan.SLICE_S, step_plan.SHARE = float(slice_), float(share)
    worker.main()


if __name__ == "__main__":
    serve() if "--run-dir" in sys.argv else work()
