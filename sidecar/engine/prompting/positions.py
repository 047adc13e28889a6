"""Where in a text, and in its tokens. Pure."""

from bisect import bisect_left


def common_length(a: str, b: str) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:  # bisection on slices: comparing two strings is a memcmp
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low


def token_at(starts: list[int], position: int, end: int) -> int | None:
    """The index of the token that begins at a text position; None when none does."""
    first = bisect_left(starts, position)
    return first if position == end or starts[first : first + 1] == [position] else None


def tokens_before(starts: list[int], cut: int) -> int:
    """How many tokens lie wholly before a text position, less one: the last of them may merge with what follows."""
    return max(0, bisect_left(starts, cut) - 1)
