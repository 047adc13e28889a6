"""Guessing what comes next from what was there before, and whether that pays."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.batching.prompt_lookup import (
    LONGEST,
    LONGEST_PAUSE,
    NGRAMS,
    PAUSE,
    SHORTEST,
    TRIES,
    Lookup,
    Speculation,
)

TOKENS = st.lists(st.integers(0, 3), max_size=60)


@given(TOKENS, TOKENS, st.integers(1, 12))
def test_a_guess_is_what_followed_the_latest_occurrence(prompt: list[int], answer: list[int], most: int) -> None:
    """Also when the list has grown since the last look, by any number of tokens."""
    tokens = list(prompt)
    lookup = Lookup(tokens)
    assert lookup.guess(most) == _slowly(tokens, most)
    for begin in range(0, len(answer), 7):
        tokens += answer[begin : begin + 7]
        assert lookup.guess(most) == _slowly(tokens, most)


def _slowly(tokens: list[int], most: int) -> list[int]:
    for size in NGRAMS:
        for begin in range(len(tokens) - size - 1, -1, -1):
            if tokens[begin : begin + size] == tokens[-size:]:
                seen = list(tokens)
                for index in range(begin + size, begin + size + most):
                    seen.append(seen[index])
                return seen[len(tokens) :]
    return []


def test_a_longer_match_is_preferred_to_a_later_one() -> None:
    assert Lookup([1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]).guess(2) == [4, 9]


def promising() -> Speculation:
    """One whose guesses have all been right."""
    speculation = Speculation()
    for token in range(60):
        speculation.came(token, lambda most, token=token: [*range(token + 1, token + 1 + most)])  # type: ignore[misc]
    return speculation


def test_guesses_are_used_only_once_they_have_been_seen_to_be_right() -> None:
    wrong = Speculation()
    wrong.stepped(0.01)
    for token in range(200):
        wrong.came(token, lambda most: [-1] * most)
        assert wrong.length() == 0
    for token in range(60):
        wrong.came(token, lambda most, token=token: [*range(token + 1, token + 1 + most)])  # type: ignore[misc]
    assert wrong.length() >= SHORTEST
    for token in range(60):
        wrong.came(token, lambda most: [])
    assert wrong.length() >= SHORTEST, "what was not guessed was not guessed wrongly"


def test_nothing_is_guessed_before_the_speed_of_plain_steps_is_known() -> None:
    speculation = promising()
    assert speculation.length() == 0
    speculation.stepped(0.01)
    assert speculation.length() >= SHORTEST


def test_guesses_get_longer_while_they_are_right_and_shorter_when_not() -> None:
    speculation = promising()
    speculation.stepped(0.01)
    for _ in range(6):
        speculation.tried(length := speculation.length(), length, 0.012)
    assert speculation.length() == LONGEST
    speculation.tried(LONGEST, 2, 0.012)
    assert speculation.length() == 3


def test_what_does_not_pay_is_off_for_longer_and_longer_and_tried_again() -> None:
    speculation = promising()
    pauses = list[int]()
    for _ in range(10):
        speculation.stepped(0.01)
        for _ in range(TRIES):
            assert speculation.length()
            speculation.tried(4, 2, 0.06)  # three plain steps' time for each token
        pauses.append(0)
        while not speculation.length():
            pauses[-1] += 1
    assert pauses[:3] == [PAUSE, 2 * PAUSE, 4 * PAUSE] and pauses[-1] == LONGEST_PAUSE


def test_a_slice_of_a_prompt_between_two_steps_does_not_make_guessing_look_good() -> None:
    speculation = promising()
    speculation.stepped(0.01)
    speculation.stepped(0.5)
    for _ in range(TRIES):
        speculation.tried(4, 2, 0.06)
    assert speculation.length() == 0
