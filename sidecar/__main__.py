"""`python -I sidecar/__main__.py MODULE ARGUMENT …`: how a process of ours is started, see `shared.program`."""

import os
import runpy
import sys

# Isolated mode leaves the script's own folder out of sys.path.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
