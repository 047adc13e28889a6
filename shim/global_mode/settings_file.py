"""Claude Code's settings.json, edited while others write it: on and off, and nobody's change is lost.

The client locks it by a folder beside it, and so do we. Editors and scripts do not: so the file is replaced by an
exchange, which hands us whatever was there in that very moment; if that is not what we had read, somebody was faster,
and what they changed is put on top. Who had read the file before us and writes it after us undoes our edit: it is
looked at for a moment longer, and done again; an editor that saves an hour later what it has read before is beyond
that, and the doctor's to find. Each step is written down first (journal), so that after a kill the next
call goes on where this one ended.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from shim.errors import CONFIG, IO_ERROR, Failure
from shim.global_mode import settings_edit
from shim.global_mode.exchange_files import swap
from shim.global_mode.settings_edit import Keys, Table, Unreadable
from shim.global_mode.undo_journal import Journal, digest, write

SPARE = ".claude-local"
"""Ends the name of the file that changes places with the settings; beside them, since a rename stays on one disk."""

LOCK = ".lock"
"""Ends the name of the folder whose maker may write: proper-lockfile's way, which is the client's."""

STALE = 10.0
"""Seconds after which a lock that nobody has touched belongs to nobody: proper-lockfile's own default."""

REST = (".part", ".copy")
"""What a kill may leave of a spare that was being written."""

SETTLE = 0.25
"""Seconds for which an edit must last: many times what the client takes from reading to writing, some milliseconds."""

PATIENCE = 2.0
"""Seconds for a text that is no JSON: somebody may be writing it where it stands."""

LIMIT = 30.0
"""Seconds for all of it: only somebody who writes without a pause is in the way for so long."""

LOOK = 0.005
"""Seconds between two looks."""


def place() -> Path:
    """Where Claude Code keeps a user's settings."""
    folder = os.environ.get("CLAUDE_CONFIG_DIR")
    return (Path(folder) if folder else Path("~/.claude").expanduser()).absolute() / "settings.json"


class Settings:
    """The settings file and its journal. One at a time: the caller holds a lock."""

    def __init__(self, journal: Path, file: Path | None = None) -> None:
        """`file`: where to begin if there is no journal yet. A journal knows its own."""
        self._file = journal
        kept = Journal.load(journal)
        self._journal = kept or Journal(os.path.realpath(file or place()), None)
        self._is_known = kept is not None
        self.path = self._journal.path
        self._spare = self.path + SPARE

    @property
    def is_on(self) -> bool:
        """Whether our keys are in the file, all of them."""
        return self._is_known and self._journal.is_ours(self._read())

    @property
    def is_known(self) -> bool:
        """Whether there is a journal: something may have to be undone."""
        return self._is_known

    def check(self) -> None:
        """Raises Failure where settings would be refused: better before anything else is begun."""
        try:
            settings_edit.parse(self._read())
        except Unreadable as error:
            raise Failure(f"{self.path} is not understood: {error}. Correct it first.", CONFIG) from None
        except OSError as error:
            raise Failure(f"{self.path}: {error.strerror}", IO_ERROR) from None

    def on(self, keys: Callable[[Table], Keys]) -> None:
        """Set our keys, which may depend on the settings without them; raises Failure."""
        self._make_folder()

        def step(text: bytes | None) -> bytes | None:
            plain = self._journal.without_us(text) if self._is_known else text
            wanted = keys(settings_edit.parse(plain))
            if self._is_known and settings_edit.has(text, wanted):
                return text  # whatever else somebody has written since
            journal, after = self._journal.with_keys(plain, wanted)
            self._save(journal)
            return after

        self._reach(step)

    def off(self) -> None:
        """Put back what was there before us; raises Failure. Nothing to do is no failure."""
        if not self._is_known:
            return
        if os.path.isdir(os.path.dirname(self.path)):  # else it was never made, or is gone
            self._reach(self._journal.without_us)
        if self._journal.made_folder:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(self.path))  # unless the client has made itself at home there
        self._file.unlink(missing_ok=True)
        self._is_known = False

    def _reach(self, step: Callable[[bytes | None], bytes | None]) -> None:
        """Make the file what `step` makes of it, until that lasts."""
        limit = time.monotonic() + LIMIT
        reached, unreadable = time.monotonic(), 0.0
        try:
            while time.monotonic() - reached < SETTLE:
                try:
                    text = self._read()
                    if self._is_home() and step(text) == text:
                        time.sleep(LOOK)
                        continue
                    with self._locked(limit):
                        self._bring_home()
                        text = self._read()
                        if (wanted := step(text)) != text:
                            self._replace(text, wanted)
                    unreadable = 0.0
                except Unreadable as error:
                    unreadable = unreadable or time.monotonic()
                    if time.monotonic() - unreadable > PATIENCE:
                        raise Failure(f"{self.path} is left as it is: {error}. Correct it first.", CONFIG) from None
                    time.sleep(LOOK)
                reached = time.monotonic()
                self._check(limit)
            with self._locked(limit):
                self._bring_home()
                self._forget_spare()
        except OSError as error:
            raise Failure(f"{error.filename or self.path}: {error.strerror}", IO_ERROR) from None

    @contextlib.contextmanager
    def _locked(self, limit: float) -> Iterator[None]:
        lock = self.path + LOCK
        while True:
            try:
                os.mkdir(lock)
                break
            except FileExistsError:
                self._check(limit)
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - os.stat(lock).st_mtime > STALE:
                        os.rmdir(lock)
                        continue
                time.sleep(LOOK)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.rmdir(lock)

    def _check(self, limit: float) -> None:
        if time.monotonic() > limit:
            raise Failure(f"{self.path} is being written all the time: end what writes it, and try again")

    def _replace(self, old: bytes | None, new: bytes | None) -> None:
        """Put `new` in the place of `old`. If it was something else by then, that is found out and made good."""
        self._forget_spare()
        self._save(self._journal._replace(base=old, put=digest(new)))
        if new is None:
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path, self._spare)
        else:
            write(Path(self._spare), new, self._mode())
            if old is None:
                with contextlib.suppress(FileExistsError):
                    os.link(self._spare, self.path)
            elif self._read() == old:
                swap(self._spare, self.path)
        self._bring_home()

    def _bring_home(self) -> None:
        """Put what somebody has changed, and we have displaced without knowing it, on top of what is there.

        What was displaced stays for a while: somebody who has it open may write into it where it is now.
        """
        while not self._is_home():
            base, displaced, current = self._journal.base, self._read(self._spare), self._read()
            if current is None:
                with contextlib.suppress(FileExistsError):
                    os.link(self._spare, self.path)
                    self._forget_spare()
                continue
            both = settings_edit.put(current, settings_edit.changes(base, displaced))
            # In this order: a kill between the two leaves a text that is still more than what is in the file.
            write(Path(self._spare), both, self._mode())
            self._save(self._journal._replace(base=current, put=digest(both)))
            swap(self._spare, self.path)

    def _is_home(self) -> bool:
        """Whether all that was displaced is known to us: what we had read, or what we were about to put there."""
        displaced = self._read(self._spare)
        return displaced in (None, self._journal.base) or digest(displaced) == self._journal.put

    def _forget_spare(self) -> None:
        for rest in ("", *REST):
            Path(self._spare + rest).unlink(missing_ok=True)

    def _save(self, journal: Journal) -> None:
        journal.save(self._file)
        self._journal, self._is_known = journal, True

    def _make_folder(self) -> None:
        folder = os.path.dirname(self.path)
        if os.path.isdir(folder):
            return
        self._save(self._journal._replace(made_folder=True))
        try:
            os.makedirs(folder, mode=0o700)
        except OSError as error:
            raise Failure(f"{folder}: {error.strerror}", IO_ERROR) from None

    def _read(self, path: str = "") -> bytes | None:
        try:
            with open(path or self.path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _mode(self) -> int:
        """The file's own; a new one is its user's alone."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return 0o600
        if status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "belongs to another user", self.path)
        return status.st_mode & 0o7777
