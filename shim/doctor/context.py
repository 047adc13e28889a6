"""What all checks start from: the configuration, the environment and the folders of whoever asks."""

import os
import pwd
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from shim.errors import Failure
from shim.lease.control_client import ask
from shim.lease.request import model_name
from sidecar.shared import config, protocol
from sidecar.shared.config import Config, ConfigError
from sidecar.shared.run_directory import RunDirectoryError


class Case(NamedTuple):
    """Read once."""

    settings: Config
    """The defaults where the configuration cannot be read."""
    broken: str
    """Why it cannot; empty = it can."""
    environment: Mapping[str, str]
    home: Path
    folder: Path
    """Where the user is."""

    @property
    def model(self) -> str:
        """The model of a command that is started here: an alias, a hub id or an absolute path."""
        return model_name(self.settings.model)

    @property
    def run_dir(self) -> str:
        """As `run_directory.run_directory` takes it; empty = the platform's."""
        return os.path.abspath(self.settings.run_dir) if self.settings.run_dir else ""

    def running(self) -> dict[str, Any] | None:
        """What the sidecar says of itself; None when none answers, whatever the reason: that is a check's own."""
        with suppress(Failure, ConfigError, RunDirectoryError, OSError):
            return ask("GET", protocol.STATUS_PATH)
        return None


def case() -> Case:
    """Of this process."""
    broken = ""
    try:
        settings = config.load()
    except ConfigError as error:
        settings, broken = Config(), str(error)
    try:
        folder = Path.cwd()
    except FileNotFoundError:  # removed under our feet
        folder = Path("/")
    return Case(settings, broken, os.environ, Path.home(), folder)


def homes() -> list[str]:
    """Every spelling of the user's home folder."""
    named = [os.path.expanduser("~"), *([entry.pw_dir] if (entry := _entry()) else [])]
    return [*named, *map(os.path.realpath, named)]


def user() -> str:
    """The user's name; empty where the system knows none, as in some containers."""
    return entry.pw_name if (entry := _entry()) else ""


def _entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:
        return None
