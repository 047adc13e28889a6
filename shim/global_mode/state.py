"""What global mode keeps on disk: its token, its port, and the environment that its relay is to have. All 0600."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from shim.errors import INTERNAL, Failure
from shim.global_mode.undo_journal import write
from shim.lease import token as tokens
from shim.lease.attach import is_still


class Folder(NamedTuple):
    """The folder of global mode, under our data directory."""

    path: Path

    @property
    def token(self) -> Path:
        return self.path / "token"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def journal(self) -> Path:
        """What settings.json was before us."""
        return self.path / "journal.json"

    @property
    def lock(self) -> Path:
        """Held by whoever turns global mode on or off."""
        return self.path / "lock"

    @property
    def life_lock(self) -> Path:
        """Held by the relay that serves the port; its process id is in it."""
        return self.path / "life.lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One at a time turns it on or off. The kernel frees the lock when its holder dies."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read_token(self) -> str:
        """The token; raises Failure when there is none."""
        try:
            return self.token.read_text("ascii").strip()
        except OSError as error:
            raise Failure(f"{self.token}: {error.strerror}. Run: claude-local global on", INTERNAL) from None

    def make_token(self) -> str:
        """The token; made if there is none."""
        if not self.token.exists():
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            write(self.token, tokens.new().encode() + b"\n")
        return self.read_token()

    @contextmanager
    def borrowed(self) -> Iterator[str]:
        """The token, for somebody who serves with it; the last of them removes it, unless global mode is on."""
        while True:
            secret = self.make_token()
            with suppress(FileNotFoundError):  # the last one has just removed it
                descriptor = os.open(self.token, os.O_RDONLY | os.O_NOFOLLOW)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                if is_still(descriptor, self.token):
                    break
                os.close(descriptor)
        try:
            yield secret
        finally:
            with suppress(BlockingIOError):  # somebody else serves with it
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if State.load(self) is None:
                    self.remove()
            os.close(descriptor)

    def clear(self) -> None:
        """Remove all of it but the lock, which somebody may be waiting for."""
        for file in (self.state, self.token, self.journal, self.life_lock):
            for path in (file, file.with_name(f"{file.name}.part")):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it altogether, when nobody else is at it."""
        self.clear()
        with suppress(OSError):
            self.lock.unlink(missing_ok=True)
            self.path.rmdir()


class State(NamedTuple):
    """How global mode was turned on."""

    port: int
    model: str
    holder: str
    """`systemd`, `launchd` or `relay`: who holds the port while nobody asks."""
    environment: dict[str, str]
    """What the relay, and a sidecar that it starts, may know of the user's environment. May hold a hub's token."""

    def save(self, folder: Folder) -> None:
        write(folder.state, json.dumps(self._asdict()).encode())

    @classmethod
    def load(cls, folder: Folder) -> Self | None:
        """The state on disk; None when global mode is off."""
        try:
            table = json.loads(folder.state.read_bytes())
            return cls(**table)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise Failure(f"{folder.state} cannot be read ({error}). Run: claude-local global off", INTERNAL) from None
