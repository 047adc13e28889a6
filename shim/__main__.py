"""`python -IS shim/__main__.py`: how bin/claude-local starts the shim, on this checkout alone."""

import os
import sys

# Isolated mode leaves the script's own folder out of sys.path, and -S everything that was installed.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from shim.launch import main

sys.exit(main())
