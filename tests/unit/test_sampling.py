"""What a request does not say about sampling, the model's author does."""

from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.sample_utils import make_sampler

from sidecar.engine.model import recommended_sampling, sampler
from sidecar.frames import Sampling


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (None, Sampling(1.0, 1.0, 0)),
        ("{", Sampling(1.0, 1.0, 0)),
        ("{}", Sampling(1.0, 1.0, 0)),
        ('{"do_sample": false}', Sampling(0.0, 1.0, 0)),
        ('{"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20}', Sampling(0.7, 0.8, 20)),
        ('{"temperature": null, "top_p": null, "top_k": null}', Sampling(1.0, 1.0, 0)),
        ('{"temperature": "0.6", "top_p": [0.9], "top_k": {}}', Sampling(1.0, 1.0, 0)),
        ('{"temperature": 0.6, "top_p": "x", "top_k": 50.0}', Sampling(0.6, 1.0, 50)),
        ('{"temperature": -1, "top_p": 0, "top_k": -5}', Sampling(1.0, 1.0, 0)),
        ('{"temperature": NaN, "top_p": 1e999, "top_k": 1e40}', Sampling(1.0, 1.0, 0)),
        ('{"temperature": true, "top_p": 7, "top_k": 0.5}', Sampling(1.0, 1.0, 0)),
        ("[1]", Sampling(1.0, 1.0, 0)),
        ("[" * 100_000, Sampling(1.0, 1.0, 0)),
    ],
)
def test_the_recommendation_is_read_where_there_is_one(tmp_path: Path, file: str | None, expected: Sampling) -> None:
    if file is not None:
        (tmp_path / "generation_config.json").write_text(file)
    assert recommended_sampling(tmp_path) == expected


@pytest.mark.parametrize("settings", [(0.0, 1.0, 0), (1.0, 1.0, 0), (0.7, 1.0, 20), (1.0, 0.5, 0), (0.7, 0.8, 20)])
def test_logits_are_sampled_as_their_probabilities_are(settings: tuple[float, float, int]) -> None:
    """Whatever is added to all of them: by some models so much that their exponentials are infinite."""
    temperature, top_p, top_k = settings
    mx.random.seed(0)
    logits = 3 * mx.random.normal((64, 300))
    mx.random.seed(1)
    expected = make_sampler(temperature, top_p=top_p, top_k=top_k)(
        logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    )
    mx.random.seed(1)
    assert sampler(*settings)(logits + 200).tolist() == expected.tolist()
