"""What mlx has g++ compile for a model, lent to each new home of a test: 5 s of a processor, once and not each time."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHERE = ".cache/claude-local/kernels"
"""In a home on Linux; elsewhere nothing is compiled."""


def lend(home: Path) -> None:
    """As if the demo model had been used there before."""
    shutil.copytree(compiled(), home / WHERE, dirs_exist_ok=True)


@lru_cache
def compiled() -> Path:
    """The folder of a home where the demo model has answered."""
    home = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    run = home / "run"
    run.mkdir(mode=0o700)
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    environment |= {
        "HOME": str(home),
        "CLAUDE_LOCAL_RUN_DIR": str(run),
        "CLAUDE_LOCAL_MODEL": "demo",
        "CLAUDE_LOCAL_DISK_CACHE": "off",
    }
    shim = [sys.executable, "-IS", str(ROOT / "shim" / "__main__.py")]
    for words in (("run", "Hello in 5 words"), ("stop", "--now")):
        subprocess.run([*shim, *words], env=environment, check=True, stdout=subprocess.DEVNULL)
    folder = home / WHERE
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
