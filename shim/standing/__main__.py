"""Start the relay of global mode for a service of an older version, and note in relay.log how to renew that service."""

import contextlib
import os
import sys
from pathlib import Path

from shim.errors import Failure
from shim.global_mode.__main__ import main
from shim.global_mode.state import Folder, State
from shim.relay.log import logger
from sidecar.shared import config

REMARK = "the service of global mode was written by an older version: claude-local global on writes it anew"


def note(folder: str) -> None:
    """Write the remark where the relay will log; what is wrong with state or settings, the relay itself says."""
    with contextlib.suppress(Failure, config.ConfigError):
        if state := State.load(Folder(Path(folder))):
            os.environ.update(state.environment)
            logger(str(config.load().logs))(REMARK)


if __name__ == "__main__":
    note(sys.argv[1])
    sys.exit(main(*sys.argv[1:]))
