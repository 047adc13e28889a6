"""Sizes and tables, as people read them."""

from rich.table import Table


def size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def columns(*names: str) -> Table:
    """A table without lines, as `ps` and `docker` have them."""
    return Table(*names, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
