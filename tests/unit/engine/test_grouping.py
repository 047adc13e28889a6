"""Which streams share a pass."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.batching.grouping import cost, grouped

LENGTHS = st.lists(st.integers(1, 50_000), max_size=7)


def test_streams_of_similar_length_share_a_pass_and_a_long_one_is_alone() -> None:
    assert grouped([6000, 300, 310], 5000, 16) == [[1, 2], [0]]
    assert grouped([500, 500, 500], 5000, 16) == [[0, 1, 2]]
    assert grouped([12_000, 11_000, 200, 12_500, 100], 5000, 16) == [[2, 4], [0, 1, 3]]
    assert grouped([500, 500, 500], 5000, 1) == [[0], [1], [2]]
    assert grouped([], 5000, 16) == []


@given(LENGTHS, st.integers(1, 30_000), st.integers(1, 4))
def test_every_stream_is_in_one_group_and_no_other_choice_is_cheaper(lengths: list[int], price: int, most: int) -> None:
    groups = grouped(lengths, price, most)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(len(group) <= most for group in groups)
    assert cost(groups, lengths, price) == min(cost(each, lengths, price) for each in _partitions(len(lengths), most))


def _partitions(count: int, most: int) -> list[list[list[int]]]:
    """Every way to divide the first `count` numbers into groups."""
    if not count:
        return [[]]
    ways = list[list[list[int]]]()
    for way in _partitions(count - 1, most):
        ways.append([*way, [count - 1]])
        for index, group in enumerate(way):
            if len(group) < most:
                ways.append([*way[:index], [*group, count - 1], *way[index + 1 :]])
    return ways
