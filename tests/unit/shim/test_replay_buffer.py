"""What clients have said and got no answer to: kept whole or not at all, within one limit for all."""

from shim.relay.replay_buffer import Memo, Shelf


def test_words_are_kept_until_they_are_answered() -> None:
    memo = Memo(Shelf(10))
    memo.add(b"one")
    memo.add(memoryview(b"two"))
    assert memo.words() == b"onetwo"
    memo.clear()
    assert memo.words() == b""


def test_what_does_not_fit_is_not_kept_in_part() -> None:
    """The end of a request without its beginning must never be taken for one."""
    shelf = Shelf(10)
    memo = Memo(shelf)
    memo.add(b"0123456789")
    memo.add(b"x")
    memo.add(b"GET")
    assert (memo.words(), shelf.left) == (b"", 10)
    memo.clear()
    memo.add(b"GET")
    assert memo.words() == b"GET"


def test_all_memos_share_one_shelf_and_give_their_part_back() -> None:
    shelf = Shelf(10)
    one, two = Memo(shelf), Memo(shelf)
    one.add(b"012345")
    two.add(b"012345")
    assert two.words() == b""
    one.clear()
    two.clear()
    two.add(b"012345")
    assert (two.words(), shelf.left) == (b"012345", 4)
