"""Two files change places in one step, which rename(2) cannot do: what was replaced is in hand, whoever wrote it."""

import ctypes
import errno
import os
import sys

LINUX_EXCHANGE, LINUX_HERE = 2, -100  # RENAME_EXCHANGE, AT_FDCWD: <linux/fs.h>, <fcntl.h>
MACOS_SWAP = 2  # RENAME_SWAP: <sys/stdio.h>

UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
"""What kernels and file systems say that cannot do it."""


def swap(one: str, other: str, platform: str = sys.platform) -> None:
    """Exchange two files of one folder; raises OSError.

    Where the system cannot, `one` replaces `other` and a copy of what `other` was stands where `one` was: the same to
    the reader, but for a write that comes between the copy and the replacement.
    """
    try:
        code = _exchange(os.fsencode(one), os.fsencode(other), platform)
    except (OSError, AttributeError):  # no such library, or no such function in it
        code = errno.ENOSYS
    if code in UNKNOWN:
        _replace(one, other)
    elif code:
        raise OSError(code, os.strerror(code), other)


def _exchange(one: bytes, other: bytes, platform: str) -> int:
    """0, or the error's number."""
    library = ctypes.CDLL(None, use_errno=True)
    if platform == "darwin":
        failed = library.renamex_np(one, other, ctypes.c_uint(MACOS_SWAP))
    else:
        failed = library.renameat2(LINUX_HERE, one, LINUX_HERE, other, ctypes.c_uint(LINUX_EXCHANGE))
    return ctypes.get_errno() if failed else 0


def _replace(one: str, other: str) -> None:
    copy = f"{one}.copy"
    with open(other, "rb") as file, open(copy, "wb") as written:
        os.fchmod(written.fileno(), 0o600)
        written.write(file.read())
    os.replace(one, other)
    os.replace(copy, one)
