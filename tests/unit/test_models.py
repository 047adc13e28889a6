"""The list of models comes in pages, as the API's other lists do."""

from typing import Any

import pytest

from sidecar.anthropic.models import Model, find, page
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
    assert find([Model("org/a-b", 100, 10)], "org/a-b")["max_input_tokens"] == 100
    with pytest.raises(NotFound, match="model: z"):
        find(MODELS, "z")
