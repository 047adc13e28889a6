"""What has been read is kept, and found again by its tokens.

Conversations that begin alike share what they share: blocks of tokens in a tree (`prefix_tree`), whose keys and values
are copied once out of a row (`kv_layout`) and never change. A row that is found is a copy again, so any number of
streams may have the same beginning at once, and whatever is kept may be forgotten at any time.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np

from sidecar.conversation import Priority
from sidecar.engine.cache.disk_store import Broken, Disk
from sidecar.engine.cache.kv_layout import Cache, Layout, Slices, State
from sidecar.engine.cache.prefix_tree import BLOCK, NONE, Node, Path, Tokens, child, last_mark, ranges, root, walk

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
    """Holds at most `budget` bytes in memory, at every moment. `new_cache`: an empty row of the model."""

    def __init__(
        self, budget: int, new_cache: Callable[[], Cache], disk: Disk | None = None, block: int = BLOCK
    ) -> None:
        self.budget = budget
        self.nbytes = 0
        """Of all that is kept in memory; what several conversations share counts once."""
        self.nodes = 0
        """Pieces in memory."""
        self.disk = disk
        self._block = block
        self._layout = Layout(new_cache)
        self._root = root(disk.fingerprint if disk else b"")
        self._clock = 0
        self._told = False
        self._unwritten: deque[Node] = deque()
        if disk is not None:
            self._restore(disk, time.time())

    @property
    def cuts(self) -> bool:
        """Whether rows can be resumed at any token; if not, only where one was added."""
        return self._layout.cuts

    @property
    def unwritten(self) -> bool:
        """Whether there is something for `write`."""
        return bool(self._unwritten)

    def match(self, tokens: list[int]) -> int:
        """How many leading tokens `find` would find."""
        return self._known(np.asarray(tokens[:-1], np.int32)).length

    def resident(self, tokens: list[int]) -> int:
        """The same, if all of it is in memory; else 0."""
        path = self._known(np.asarray(tokens[:-1], np.int32))
        end = path.mark or (path.nodes[-1] if path.nodes else None)
        return path.length if end and all(node.payload is not None for node in end.above()) else 0

    def find(self, tokens: list[int], priority: Priority = Priority.MAIN, keep: bool = True) -> Found:
        """The longest known beginning of `tokens`, with room for all of them.

        At most all tokens but the last, which must run through the model to give the first logits. The row is one copy
        of what it holds. What is on disk alone is kept in memory from now on, if others can make room for it and `keep`
        allows it; else it takes no more than one layer at a time beside the row.
        """
        path = self._known(np.asarray(tokens[:-1], np.int32))
        if not path.length:
            return Found(None, 0)
        end = path.mark or path.nodes[-1]
        self._touch(end, priority)
        payloads: dict[Node, Any] = {}
        for node in end.above():
            try:
                payloads[node] = self._read(node)
            except Broken as error:
                log.warning("a cached prefix is dropped: %s: %s", node.file, error)
                self._drop(node)
                return self.find(tokens, priority, keep)
        absent = [node for node in payloads if node.payload is None]
        if keep and absent:
            self._hold({node: payloads[node] for node in absent}, end)
        parts = [(payloads[node], used) for node, used in path.used]
        cache = self._layout.join(parts, path.length, len(tokens), payloads[path.mark] if path.mark else None)
        # Without its mark nothing of a row that needs one could have been used.
        from_disk = path.length if path.mark in absent else sum(used for node, used in path.used if node in absent)
        return Found(cache, path.length, from_disk)

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
            replaced = outgrown if a == at else None
            node = child(replaced.parent if replaced and replaced.parent else parent, a, wanted[a:b])
            if replaced:
                node.outgrown = replaced.file or replaced.outgrown
                self._release(replaced)
            parent = self._hang(node, slices, each * (b - a), priority)
        if state is not None:
            mx.eval(state.arrays)
            self._hang(child(parent, len(wanted), NONE), state, state.nbytes, priority)

    def shed(self, budget: int) -> None:
        """Forget what was not used for longest until at most `budget` bytes are in memory. What is on disk stays."""
        self._shed(budget, frozenset())
        mx.clear_cache()

    def clear(self) -> None:
        """Forget everything, on disk too."""
        for node in [*self._root.children.values()]:
            self._drop(node)
        self._unwritten.clear()
        mx.clear_cache()

    def hurry(self) -> None:
        """There may not be time to write everything: what is worth most comes first from now on, so that of each
        conversation the newest state does. What the disk could not keep beside it is not written at all."""
        room = self.disk.limit if self.disk is not None else 0
        wanted, self._unwritten = self._unwritten, deque()
        for node in sorted(wanted, key=lambda node: (-node.rank, node.depth)):
            room -= node.nbytes
            if room < 0:
                break
            self._unwritten.append(node)

    def write(self) -> None:
        """Write the next piece that is not on disk yet, if any, the oldest one unless in a `hurry`: the work of some
        tens of milliseconds at most.

        What comes before a piece is written before it, so that whatever is on disk can be reached.
        """
        while self._unwritten and self.disk is not None:
            node = self._unwritten[0]
            above = [*node.above()]
            if node.file or any(each.payload is None and not each.file for each in above) or not _is_there(above):
                self._unwritten.popleft()
                continue
            node = next(each for each in reversed(above) if not each.file)
            node.file = self.disk.write(node) or ""
            if not node.file:
                self._unwritten.clear()
            elif node.outgrown:
                self.disk.remove(node.outgrown)
                node.outgrown = ""
            self._shed_disk(self.disk)
            if self._unwritten and not node.file:
                self._unwritten.popleft()  # there is no room for it beside what is worth more: it is tried once
            return

    def _known(self, wanted: Tokens) -> Path:
        path = walk(self._root, wanted)
        return path if self.cuts else last_mark(path)

    def _outgrown(self, path: Path, length: int) -> Node | None:
        """The last block of a path, if it only ends because the conversation did: a longer one takes its place."""
        if not path.nodes or path.length == length:
            return None
        node = path.nodes[-1]
        return node if path.length == node.end and len(node.tokens) < self._block and not node.children else None

    def _hang(self, node: Node, payload: Slices | State, nbytes: int, priority: Priority) -> Node:
        assert node.parent is not None
        node.parent.children[node.key] = node
        self._set(node, payload, nbytes)
        self._touch(node, priority)
        if self.disk is not None and self.disk.writable:
            self._unwritten.append(node)
        return node

    def _set(self, node: Node, payload: Slices | State, nbytes: int) -> None:
        node.payload, node.nbytes = payload, nbytes
        self.nbytes += nbytes
        self.nodes += 1

    def _touch(self, node: Node, priority: Priority) -> None:
        self._clock += 1
        now = time.time()
        for each in node.above():
            each.rank = max(each.rank, self._clock + LEAD[priority])
            if each.file and self.disk is not None:
                self.disk.touch(each.file, now)

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
            if node.payload is None:
                continue  # it went with what was behind it
            self._release(node)
            if not node.file:
                self._drop(node, keep)

    def _release(self, node: Node) -> None:
        """Out of memory."""
        if node.payload is not None:
            self.nbytes -= node.nbytes
            self.nodes -= 1
            node.payload, node.nbytes = None, 0

    def _drop(self, node: Node, keep: frozenset[Node] = frozenset()) -> None:
        """Out of memory and off the disk, with everything behind it, which cannot be reached without it."""
        for each in node.below():
            self._release(each)
            self._erase(each)
        parent = node.parent
        assert parent is not None
        del parent.children[node.key]
        # Tokens to which no mark leads on are of no use to a model that must have one.
        while not self.cuts and parent.parent is not None and not parent.children and parent not in keep:
            self._release(parent)
            self._erase(parent)
            del parent.parent.children[parent.key]
            parent = parent.parent

    # On disk

    def _erase(self, node: Node) -> None:
        if self.disk is not None:
            for file in filter(None, (node.file, node.outgrown)):
                self.disk.remove(file)
        node.file = node.outgrown = ""

    def _restore(self, disk: Disk, now: float) -> None:
        """The tree as the files have it. Ranks before any use of now: seconds, below 0."""
        known = {self._root.digest: self._root}
        for entry in disk.scan(now):
            parent = known.get(entry.parent)
            if parent is None or not parent.start <= entry.start <= parent.end:
                disk.remove(entry.name)
                continue
            node = child(parent, entry.start, entry.tokens)
            if node.digest != entry.digest or node.key in parent.children:
                disk.remove(entry.name)
                continue
            node.file = entry.name
            parent.children[node.key] = known[node.digest] = node
            node.rank = min(-1, int(entry.used - now) - 1)  # a clock that was put back leaves times to come
            for each in node.above():
                each.rank = max(each.rank, node.rank)

    def _read(self, node: Node) -> Slices | State:
        """The payload; lazy where it is on disk. Raises Broken."""
        if node.payload is not None:
            return cast(Slices | State, node.payload)
        assert self.disk is not None
        return self.disk.read(node.file, self._layout.leaves)

    def _hold(self, payloads: dict[Node, Slices | State], end: Node) -> None:
        """Keep in memory what was on disk alone, all of it or nothing."""
        sizes = {node: sum(array.nbytes for array in _flat(payload)) for node, payload in payloads.items()}
        if self._make_room(sum(sizes.values()), end) >= 0:
            mx.eval([_flat(payload) for payload in payloads.values()])  # together: their files are read side by side
            for node, payload in payloads.items():
                self._set(node, payload, sizes[node])

    def _shed_disk(self, disk: Disk) -> None:
        """What was not used for longest goes, until it is a little less than there may be: not for every new one."""
        if not disk.holds_over():
            return
        nodes = [node for node in self._root.below() if node.file]
        for node in sorted(nodes, key=lambda node: (node.rank, -node.depth)):
            if not disk.holds_over(0.95):
                return
            if not node.file:
                continue
            self._erase(node)
            if node.payload is None:
                self._drop(node)

    def _say_unknown(self) -> None:
        """Once: every turn of such a model reads all of its prompt."""
        if not self._told:
            self._told = True
            log.warning(
                "nothing that this model reads is kept: its caches are of an unknown kind (%s)", self._layout.name
            )


def _flat(payload: Slices | State) -> list[mx.array]:
    return [*payload.arrays] if isinstance(payload, State) else [array for leaf in payload for array in leaf]


def _is_there(above: list[Node]) -> bool:
    """Whether a node, with all above it, is still in the tree."""
    return all(each.parent is not None and each.parent.children.get(each.key) is each for each in above)
