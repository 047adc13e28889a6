"""What has been read is kept, and found again by its tokens.

Conversations that begin alike share what they share: blocks of tokens in a tree (`tree`), whose keys and values are
copied once out of a row (`row`) and never change. A row that is found is a copy again, so any number of streams may
have the same beginning at once, and whatever is kept may be forgotten at any time.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from sidecar.engine.row import Cache, Layout
from sidecar.engine.tree import BLOCK, NONE, Node, Path, Tokens, child, last_mark, ranges, root, walk
from sidecar.frames import Priority

log = logging.getLogger(__name__)

LEAD = {Priority.MAIN: 64, Priority.SUBAGENT: 16, Priority.SIDE: 0, Priority.PREWARM: 0}
"""By how many uses of others a conversation is remembered longer than if it were as old as it is. A request is two or
three uses: some twenty titles and summaries in a row do not displace the conversation that they are about."""


class Found(NamedTuple):
    """What is known of a prompt."""

    cache: Cache | None
    """A row that is the caller's own; None when nothing is known."""
    length: int
    """Tokens in it."""
    from_disk: int = 0
    """How many of them were not in memory."""


class PrefixCache:
    """Holds at most `budget` bytes, at every moment. `new_cache`: an empty row of the model."""

    def __init__(self, budget: int, new_cache: Callable[[], Cache], block: int = BLOCK) -> None:
        self.budget = budget
        self._block = block
        self.nbytes = 0
        """Of all that is kept in memory; what several conversations share counts once."""
        self._layout = Layout(new_cache)
        self._root = root(b"")
        self._clock = 0
        self._told = False

    @property
    def cuts(self) -> bool:
        """Whether rows can be resumed at any token; if not, only where one was added."""
        return self._layout.cuts

    def __len__(self) -> int:
        return sum(1 for node in self._root.below() if node.payload is not None)

    def match(self, tokens: list[int]) -> int:
        """How many leading tokens `find` would find."""
        return self._known(np.asarray(tokens[:-1], np.int32)).length

    def find(self, tokens: list[int], priority: Priority = Priority.MAIN) -> Found:
        """The longest known beginning of `tokens`, with room for all of them.

        At most all tokens but the last, which must run through the model to give the first logits. The row is one copy
        of what it holds; nothing else is copied.
        """
        path = self._known(np.asarray(tokens[:-1], np.int32))
        if not path.length:
            return Found(None, 0)
        self._touch(path.mark or path.nodes[-1], priority)
        parts = [(node.payload, used) for node, used in path.used]
        cache = self._layout.join(parts, path.length, len(tokens), path.mark.payload if path.mark else None)
        return Found(cache, path.length)

    def add(self, tokens: list[int], cache: Cache, priority: Priority = Priority.MAIN, last: bool = False) -> None:
        """Keep what `cache`, a row that holds exactly `tokens`, has beyond what is kept already.

        `last`: nobody needs the row any more, and it is given up; of one that was taken out of a batch no more than
        one layer at a time becomes real. Room is made before anything is copied; where there is not enough, the
        beginning is kept.
        """
        if self._layout.unknown or not self._layout.fits(cache, len(tokens)):
            self._say_unknown()
            return
        wanted = np.asarray(tokens, np.int32)
        path = walk(self._root, wanted)
        mark = path.mark if path.length == len(wanted) else None
        outgrown = self._outgrown(path, len(wanted))
        at = outgrown.start if outgrown else path.length
        parent = path.nodes[-1] if path.nodes else self._root
        self._touch(mark or parent, priority)
        state = None if self.cuts or mark else self._layout.state(cache)
        each = self._layout.token_bytes(cache)
        room = self._make_room(each * (len(wanted) - at) + (state.nbytes if state else 0), mark or parent)
        if room < 0 and not self.cuts:
            return
        fitting = [
            (a, b) for a, b in ranges(at, len(wanted), self._block) if room >= 0 or each * (len(wanted) - b) >= -room
        ]
        for (a, b), slices in zip(fitting, self._layout.cut(cache, fitting, last), strict=True):
            if outgrown and outgrown.parent and a == at:
                parent = outgrown.parent
                self.nbytes -= outgrown.nbytes
            parent = self._hang(child(parent, a, wanted[a:b]), slices, each * (b - a), priority)
        if state is not None:
            mx.eval(state.arrays)
            self._hang(child(parent, len(wanted), NONE), state, state.nbytes, priority)

    def shed(self, budget: int) -> None:
        """Forget what was not used for longest until at most `budget` bytes are held."""
        self._shed(budget, frozenset())
        mx.clear_cache()

    def _known(self, wanted: Tokens) -> Path:
        path = walk(self._root, wanted)
        return path if self.cuts else last_mark(path)

    def _outgrown(self, path: Path, length: int) -> Node | None:
        """The last block of a path, if it only ends because the conversation did: a longer one takes its place."""
        if not path.nodes or path.length == length:
            return None
        node = path.nodes[-1]
        return node if path.length == node.end and len(node.tokens) < self._block and not node.children else None

    def _hang(self, node: Node, payload: object, nbytes: int, priority: Priority) -> Node:
        assert node.parent is not None
        node.parent.children[node.key] = node
        node.payload, node.nbytes = payload, nbytes
        self.nbytes += nbytes
        self._touch(node, priority)
        return node

    def _touch(self, node: Node, priority: Priority) -> None:
        self._clock += 1
        for each in node.above():
            each.rank = max(each.rank, self._clock + LEAD[priority])

    def _make_room(self, wanted: int, behind: Node) -> int:
        """Forget others until so many bytes may be added behind a node; returns how many more there is room for, or
        below 0 how many are missing."""
        self._shed(self.budget - wanted, frozenset(behind.above()))
        return self.budget - wanted - self.nbytes

    def _shed(self, budget: int, keep: frozenset[Node]) -> None:
        if self.nbytes <= budget:
            return
        # Children first among those of one rank, which is never more than their parents'.
        nodes = [node for node in self._root.below() if node.payload is not None and node not in keep]
        for node in sorted(nodes, key=lambda node: (node.rank, -node.depth)):
            if self.nbytes <= budget:
                return
            self._forget(node)
            above = node.parent
            # Tokens to which no mark leads on are of no use to a model that must have one.
            while not self.cuts and above and above.parent and not above.children and above not in keep:
                self._forget(above)
                above = above.parent

    def _forget(self, node: Node) -> None:
        if node.payload is not None and node.parent is not None:
            self.nbytes -= node.nbytes
            node.payload, node.nbytes = None, 0
            del node.parent.children[node.key]

    def _say_unknown(self) -> None:
        """Once: every turn of such a model reads all of its prompt."""
        if not self._told:
            self._told = True
            log.warning(
                "nothing that this model reads is kept: its caches are of an unknown kind (%s)", self._layout.name
            )
