"""The console script: what the command line asks for is done, and what fails is one line and an exit code.

The fast path: every import here is paid by every invocation.
"""

import os
import signal
import sys

from shim import command_line
from shim.errors import CANNOT_CREATE, CONFIG, INTERNAL, OS_ERROR, Failure, say
from shim.launch import launch
from sidecar.shared import config, run_directory


def main() -> int:
    """The console script. Returns the exit code of a verb or a failure; otherwise this process is the command."""
    _hold_standard_streams()
    try:
        _catch_interrupts()
        anyway = sys.argv[1:2] == [command_line.ANYWAY]
        word, arguments = command_line.split(sys.argv[1 + anyway :])
        if word:
            from shim.commands import dispatch

            return dispatch.run(word, arguments)
        launch(arguments, anyway)
    except Failure as failure:
        say(failure.reason)
        return failure.exit_code
    except config.ConfigError as error:
        say(str(error))
        return CONFIG
    except run_directory.RunDirectoryError as error:
        say(str(error))
        return CANNOT_CREATE
    except OSError as error:
        say(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return OS_ERROR
    except KeyboardInterrupt:
        _die_of_interrupt()
    return INTERNAL


def _hold_standard_streams() -> None:
    """Where a standard stream was closed, nothing of ours may take its number. The command finds it closed again."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _catch_interrupts() -> None:
    """From here on a Ctrl-C is an exception again: see __main__."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _die_of_interrupt() -> None:
    """Ctrl-C while waiting: die of the signal, so that a shell ends its loop too. Its exit status reads 130."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
