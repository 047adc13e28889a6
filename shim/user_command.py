"""The user's command: found as a shell finds it, and become as if a shell had started it."""

import os
import signal

from shim.errors import CANNOT_RUN, NOT_FOUND, Failure

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where shells look when PATH is unset (confstr(_CS_PATH) and the usual first place)."""


def find(name: str, path: str | None) -> str:
    """The file to run; raises Failure with 127 (nothing of that name) or 126 (there, but not to be run)."""
    if "/" in name:
        candidates = [name]
    else:
        folders = (DEFAULT_PATH if path is None else path).split(":")
        candidates = [os.path.join(folder or ".", name) for folder in folders] if name else []
    blocked = ""
    for candidate in candidates:
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            blocked = blocked or candidate
        elif "/" in name and os.path.isdir(candidate):
            raise Failure(f"{name}: is a directory", CANNOT_RUN)
    if blocked:
        raise Failure(f"{blocked}: permission denied (not executable)", CANNOT_RUN)
    raise Failure(f"{name}: command not found", NOT_FOUND)


def user_environment() -> dict[str, str]:
    """The environment as the user had it.

    In a C locale the interpreter sets LC_CTYPE for itself, isolated mode or not, and would leave it to the command.
    Linux still knows the environment we were started with; elsewhere that value in that place can only be Python's.
    """
    variables = dict(os.environ)
    if variables.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8") and "LC_ALL" not in variables:
        try:
            with open("/proc/self/environ", "rb") as started_with:
                ours = not any(entry.startswith(b"LC_CTYPE=") for entry in started_with.read().split(b"\0"))
        except OSError:
            ours = variables["LC_CTYPE"] == "C.UTF-8" and variables.get("LANG", "") in ("", "C", "POSIX")
        if ours:
            del variables["LC_CTYPE"]
    return variables


def become(file: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Turn this process into the command; returns never, raises Failure when the file turns out not to run."""
    # The interpreter ignores these two for itself; a command that inherits that never dies of a closed pipe.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        try:
            os.execve(file, arguments, environment)
        except OSError as error:
            import errno

            if error.errno != errno.ENOEXEC:
                raise
            # A script without a first line: every shell, and execvp, hand it to sh.
            os.execve("/bin/sh", ["/bin/sh", file, *arguments[1:]], environment)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", CANNOT_RUN) from None
    except ValueError as error:  # a NUL byte
        raise Failure(f"{file}: {error}", CANNOT_RUN) from None
