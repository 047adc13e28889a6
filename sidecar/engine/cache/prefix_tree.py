"""The tree of what has been read: each node holds some tokens after those of its parent.

A child goes on behind its parent's last token, or parts from it in the middle: then it begins with another token than
the parent's next one, so at every point at most one way leads on, and a lookup costs the same however many
conversations there are. Nothing is ever split. Knows nothing of MLX, budgets and files.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
"""The most tokens of one node."""

MARK = -1
"""In place of a first token, for a node of no tokens."""

Tokens = NDArray[np.int32]
NONE: Tokens = np.empty(0, np.int32)


@dataclass(eq=False, slots=True)
class Node:
    """Some tokens, and what the caches hold of them; or a mark: no tokens, but what holds at one point alone."""

    parent: "Node | None"
    start: int
    """Tokens before it."""
    tokens: Tokens
    digest: bytes
    """Of all that it stands for: the chain of parents up to the root, whose digest is the model's."""
    payload: Any = None
    """Slices, or a mark's State; None while it is on disk alone."""
    file: str = ""
    """On disk; empty while it is in memory alone."""
    outgrown: str = ""
    """The file of a shorter one in its place, which goes when it has one itself."""
    nbytes: int = 0
    """Of the payload in memory."""
    rank: int = 0
    """When it was last used; never less than its children's."""
    depth: int = 0
    children: dict[tuple[int, int], "Node"] = field(default_factory=dict)
    """By (tokens of this node that go before, first token or MARK)."""

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    @property
    def is_mark(self) -> bool:
        return not len(self.tokens)

    @property
    def key(self) -> tuple[int, int]:
        """Under which it hangs in its parent."""
        assert self.parent is not None
        return self.start - self.parent.start, MARK if self.is_mark else int(self.tokens[0])

    def above(self) -> Iterator["Node"]:
        """Itself and everything between it and the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent

    def below(self) -> Iterator["Node"]:
        """Itself and everything behind it, parents first."""
        nodes = [self]
        while nodes:
            yield (node := nodes.pop())
            nodes += node.children.values()


def root(fingerprint: bytes) -> Node:
    return Node(None, 0, NONE, fingerprint)


def child(parent: Node, start: int, tokens: Tokens) -> Node:
    """A new node, not yet in the tree."""
    return Node(parent, start, tokens, chained(parent.digest, start, tokens), depth=parent.depth + 1)


def chained(parent: bytes, start: int, tokens: Tokens) -> bytes:
    """The digest of a node."""
    return hashlib.blake2b(parent + start.to_bytes(8, "little") + tokens.tobytes(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Path:
    """The way from the root along some tokens, as far as they are known."""

    nodes: tuple[Node, ...]
    """From the root's child on; a mark at the end is not among them."""
    length: int
    """Tokens that they share with those looked up: all of each node but the later part of some."""
    mark: Node | None = None
    """At exactly this length."""

    @property
    def used(self) -> Sequence[tuple[Node, int]]:
        """The nodes with how many of their tokens are shared."""
        ends = [node.start for node in self.nodes[1:]] + [self.length]
        return [(node, end - node.start) for node, end in zip(self.nodes, ends, strict=False)]


def walk(top: Node, tokens: Tokens) -> Path:
    """The longest known beginning of `tokens`."""
    nodes, node, at = [], top, 0
    while at < len(tokens) and (following := node.children.get((at - node.start, int(tokens[at])))) is not None:
        node = following
        at += common(node.tokens, tokens[at : at + len(node.tokens)])
        nodes.append(node)
    return Path(tuple(nodes), at, _mark(node, at))


def last_mark(path: Path) -> Path:
    """As much of a path as there is up to its last mark."""
    for count, (node, used) in reversed([*enumerate(path.used, 1)]):
        marked = [offset for offset, first in node.children if first == MARK and offset <= used]
        if marked:
            at = node.start + max(marked)
            return Path(path.nodes[:count], at, _mark(node, at))
    return Path((), 0)


def _mark(node: Node, at: int) -> Node | None:
    return node.children.get((at - node.start, MARK))


def common(a: Tokens, b: Tokens) -> int:
    """How many tokens both begin with."""
    length = min(len(a), len(b))
    differ = a[:length] != b[:length]
    first = int(differ.argmax()) if length else 0
    return first if length and differ[first] else length


def ranges(start: int, end: int, block: int) -> Sequence[tuple[int, int]]:
    """The pieces of at most so many tokens."""
    return [(at, min(at + block, end)) for at in range(start, end, block)]
