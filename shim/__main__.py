"""`python -IS shim/__main__.py`: how bin/claude-local starts the shim, on this checkout alone."""

import _signal  # type: ignore[import-not-found]  # built in: signal itself takes milliseconds

# Until somebody catches it, a Ctrl-C would be a traceback. One that is ignored, as in a background job, stays so.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import os
import sys

# Isolated mode leaves the script's own folder out of sys.path, and -S everything that was installed.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from shim.main import main

sys.exit(main())
