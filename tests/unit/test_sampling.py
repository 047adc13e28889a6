"""What a request does not say about sampling, the model's author does."""

from pathlib import Path

import pytest

from sidecar.engine.model import recommended_sampling
from sidecar.frames import Sampling


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (None, Sampling(1.0, 1.0, 0)),
        ("{", Sampling(1.0, 1.0, 0)),
        ("{}", Sampling(1.0, 1.0, 0)),
        ('{"do_sample": false}', Sampling(0.0, 1.0, 0)),
        ('{"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20}', Sampling(0.7, 0.8, 20)),
    ],
)
def test_the_recommendation_is_read_where_there_is_one(tmp_path: Path, file: str | None, expected: Sampling) -> None:
    if file is not None:
        (tmp_path / "generation_config.json").write_text(file)
    assert recommended_sampling(tmp_path) == expected
