"""Which streams are decoded together: in a pass every row is padded to the longest, so similar lengths go together.

Pure.
"""

from collections.abc import Sequence

REGROUP = 0.9
"""Streams change their groups only for a cost that is lower by this factor: a row that moves is copied."""


def grouped(lengths: Sequence[int], pass_tokens: float, most: int) -> list[list[int]]:
    """The cheapest groups of at most `most` rows: lists of indices into `lengths`, which are in tokens.

    A pass costs as much as attending to `pass_tokens` tokens does, for reading the weights once, and its padded rows on
    top. In the order of length, groups are neighbours: exchanging two rows across groups never makes padding less.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    best: list[tuple[float, int]] = [(0.0, 0)]  # of the first n rows: their cost, and where their last group begins
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        best.append(
            min(
                (best[begin][0] + pass_tokens + (end - begin) * longest, begin)
                for begin in range(max(0, end - most), end)
            )
        )
    groups, end = list[list[int]](), len(order)
    while end:
        begin = best[end][1]
        groups.append(sorted(order[begin:end]))
        end = begin
    return groups[::-1]


def cost(groups: Sequence[Sequence[int]], lengths: Sequence[int], pass_tokens: float) -> float:
    """What one step of all groups costs, in tokens attended to."""
    return sum(pass_tokens + len(group) * max(lengths[index] for index in group) for group in groups)
