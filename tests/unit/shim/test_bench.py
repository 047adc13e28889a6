"""The arithmetic of `claude-local bench`."""

from itertools import pairwise

from shim.commands.bench import Reading, Timed, Writing, figures, filler, rate


def test_speed_is_from_the_first_word_to_the_last_over_all_answers() -> None:
    """Two streams, two rounds: each writes 11 tokens in a second, 10 of them after its first word."""
    rounds = [[Timed(0.0, 1.0, 2.0, 5, 11), Timed(0.0, 1.5, 2.5, 5, 11)], [Timed(3.0, 4.0, 5.0, 5, 11)] * 2]
    assert rate(rounds) == Writing(2, each=40 / 4.0, together=40 / 2.5)


def test_an_answer_of_one_token_has_no_speed_and_is_no_error() -> None:
    assert rate([[Timed(0.0, 1.0, 1.0, 5, 1)]]) == Writing(1, 0.0, 0.0)


def test_no_two_words_in_a_row_occur_twice() -> None:
    words = filler(8000).split()
    pairs = [*pairwise(words)]
    assert len(set(pairs)) == len(pairs)


def test_figures_for_scripts_name_their_units() -> None:
    shown = figures("demo", [Reading(500, 2.0, 0.5)], [Writing(4, 10.0, 38.0)])
    assert shown == {
        "model": "demo",
        "reading": [{"prompt_tokens": 500, "cold_s": 2.0, "warm_s": 0.5, "tokens_per_s": 250.0}],
        "writing": [{"streams": 4, "tokens_per_s_each": 10.0, "tokens_per_s": 38.0}],
    }
