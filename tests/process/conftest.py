"""Fixtures of the process tier."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import make_tiny
from tests.process.hub import REPOSITORY, Hub, serving


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights are large enough to be resumed."""
    return make_tiny(tmp_path_factory.mktemp("large"), hidden_size=256, intermediate_size=512, num_hidden_layers=4)


@pytest.fixture
def hub(large: Path) -> Iterator[Hub]:
    with serving(Hub(REPOSITORY, large)) as hub:
        yield hub
