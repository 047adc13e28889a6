"""`python -I sidecar/__main__.py MODULE ARGUMENT …`: how a process of ours is started, see `shared.program`."""

import os
import runpy
import sys

MOVED = {"sidecar.download": "sidecar.models.resolve", "sidecar.pdf": "sidecar.documents.pdf"}
"""Modules by the names that a sidecar of an older version, which goes on running after an update, starts them by."""

# Isolated mode leaves the script's own folder out of sys.path.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
name = sys.argv.pop(1)
runpy.run_module(MOVED.get(name, name), run_name="__main__", alter_sys=True)
