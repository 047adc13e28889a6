"""Fixtures of the process tier."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import REPOSITORY, Hub, serving
from tests.support.models import make_tiny
from tests.support.place import Place, Session


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights are large enough to be resumed."""
    return make_tiny(tmp_path_factory.mktemp("large"), hidden_size=256, intermediate_size=512, num_hidden_layers=4)


@pytest.fixture
def hub(large: Path) -> Iterator[Hub]:
    with serving(Hub(REPOSITORY, large)) as hub:
        yield hub


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Of the shim's, with a sidecar without a model; no relay may have logged anything."""
    place = Place(tmp_path)
    yield place
    place.clean()
    assert not place.logged(), place.logged()


@pytest.fixture
def session(place: Place) -> Session:
    return Session(place)
