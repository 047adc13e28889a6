"""The list of models comes in pages, as the API's other lists do."""

from typing import Any

import pytest

from sidecar.anthropic.models import Model, find, meant, page
from sidecar.errors import InvalidRequest, NotFound

MODELS = [Model(name) for name in "abcde"]


def shown(query: str) -> tuple[str, bool]:
    answer = page(MODELS, query)
    ids = [model["id"] for model in answer["data"]]
    assert (answer["first_id"], answer["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return "".join(ids), answer["has_more"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ("abcde", False)),
        ("limit=2", ("ab", True)),
        ("limit=2&after_id=b", ("cd", True)),
        ("limit=2&after_id=d", ("e", False)),
        ("limit=2&before_id=d", ("bc", True)),
        ("limit=1000&before_id=b", ("a", False)),
        ("after_id=e", ("", False)),
        ("beta=true", ("abcde", False)),
    ],
)
def test_a_page_begins_and_ends_where_it_was_asked_to(query: str, expected: Any) -> None:
    assert shown(query) == expected


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=many", "limit=²", "after_id=z", "before_id=z"])
def test_a_page_that_cannot_be_is_refused_by_field(query: str) -> None:
    with pytest.raises(InvalidRequest, match=query.partition("=")[0]):
        page(MODELS, query)


def test_one_model_is_found_by_its_name_whole() -> None:
    assert find([Model("org/a-b", 100, 10)], "org/a-b", "a")["max_input_tokens"] == 100
    with pytest.raises(NotFound, match="model: z"):
        find(MODELS, "z", "a")


@pytest.mark.parametrize("name", ["claude-opus-4-5", "anthropic/claude-x", "anthropic.claude-x-v1:0"])
def test_a_name_of_the_vendors_means_the_model_that_answers_to_it(name: str) -> None:
    found = find([Model("a"), Model("own", 100, 10)], name, "own")
    assert (found["id"], found["max_input_tokens"], found["max_tokens"]) == (name, 100, 10)
    assert meant(name, "own") == "own"


def test_other_names_mean_what_they_say() -> None:
    for name in ("own", "claude", "mlx-community/claude-x", "gpt-4o"):
        assert meant(name, "other") == name


def test_a_model_is_one_to_openais_clients_too() -> None:
    answer = page([Model("a", created_at="2026-01-02T03:04:05+00:00"), Model("b")], "")
    assert answer["object"] == "list"
    assert [(each["object"], each["created"], each["owned_by"]) for each in answer["data"]] == [
        ("model", 1767323045, "claude-local"),
        ("model", 0, "claude-local"),
    ]
