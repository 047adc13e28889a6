"""What a request does not say about sampling, the user does, else the model's author, else we."""

from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.sample_utils import make_sampler

from sidecar.conversation import Sampling
from sidecar.engine.model import sampler
from sidecar.engine.sampling import OURS, THINKING, TOP_K, Defaults, recommended

NOTHING = Sampling()
GREEDY = Sampling(0.0)
SILENT = Defaults(None, NOTHING)
AUTHOR = Defaults(None, Sampling(0.6, 0.95, 20))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (None, NOTHING),
        ("{", NOTHING),
        ("[1]", NOTHING),
        ("[" * 100_000, NOTHING),
        ("{}", NOTHING),
        ('{"_from_model_config": true, "eos_token_id": 2}', NOTHING),
        ('{"do_sample": null, "temperature": null, "top_p": null, "top_k": null}', NOTHING),
        ('{"do_sample": "no", "temperature": "0.6", "top_p": [0.9], "top_k": {}}', NOTHING),
        ('{"temperature": -1, "top_p": 0, "top_k": -5}', NOTHING),
        ('{"temperature": NaN, "top_p": 1e999, "top_k": 1e40}', NOTHING),
        ('{"temperature": true, "top_p": 7, "top_k": 0.5}', NOTHING),
        ('{"do_sample": false}', GREEDY),
        ('{"do_sample": false, "temperature": 0.7, "top_k": 20}', GREEDY),
        ('{"temperature": 0}', GREEDY),
        ('{"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20}', Sampling(0.7, 0.8, 20)),
        ('{"do_sample": true, "temperature": 0.6, "top_p": 0.9}', Sampling(0.6, 0.9)),
        ('{"do_sample": true, "top_p": 0.95, "top_k": 64}', Sampling(1.0, 0.95, 64)),
        ('{"do_sample": true}', Sampling(1.0, None, TOP_K)),
        ('{"temperature": 0.6, "top_p": "x", "top_k": 50.0}', Sampling(0.6, None, 50)),
        ('{"temperature": 0.15}', Sampling(0.15)),
        ('{"top_p": 0.95}', Sampling(1.0, 0.95)),
    ],
)
def test_the_recommendation_is_read_where_there_is_one(tmp_path: Path, file: str | None, expected: Sampling) -> None:
    if file is not None:
        (tmp_path / "generation_config.json").write_text(file)
    assert recommended(tmp_path) == expected


@pytest.mark.parametrize(
    ("defaults", "asked", "expected"),
    [
        (SILENT, NOTHING, OURS),
        (SILENT, Sampling(1.0), (1.0, 1.0, 0)),
        (SILENT, Sampling(0.3, 0.5, 7), (0.3, 0.5, 7)),
        (SILENT, Sampling(top_p=0.9), (1.0, 0.9, 0)),
        (SILENT, Sampling(top_k=20), (1.0, 1.0, 20)),
        (SILENT, Sampling(top_p=1.0, top_k=0), OURS),
        (Defaults(None, NOTHING, True), NOTHING, THINKING),
        (Defaults(None, NOTHING, True), Sampling(1.0), (1.0, 1.0, 0)),
        (Defaults(None, GREEDY, True), NOTHING, (0.0, 1.0, 0)),
        (AUTHOR, NOTHING, (0.6, 0.95, 20)),
        (AUTHOR, Sampling(1.0), (1.0, 0.95, 20)),
        (AUTHOR, Sampling(top_p=0.5), (0.6, 0.5, 20)),
        (Defaults(0.2, Sampling(0.6, 0.95, 20)), NOTHING, (0.2, 0.95, 20)),
        (Defaults(0.2, Sampling(0.6, 0.95, 20)), Sampling(1.0), (1.0, 0.95, 20)),
        (Defaults(0.2, NOTHING), NOTHING, (0.2, 1.0, 0)),
        (Defaults(0.0, NOTHING), Sampling(top_p=0.9), (0.0, 0.9, 0)),
        (Defaults(None, GREEDY), NOTHING, (0.0, 1.0, 0)),
        (Defaults(None, GREEDY), Sampling(1.0), (1.0, 1.0, 0)),
    ],
)
def test_each_value_comes_from_the_first_who_names_it(
    defaults: Defaults, asked: Sampling, expected: tuple[float, float, int]
) -> None:
    assert defaults.settled(asked) == expected


@pytest.mark.parametrize(
    ("defaults", "by"),
    [(SILENT, "ours"), (AUTHOR, "model"), (Defaults(None, GREEDY), "model"), (Defaults(0.0, GREEDY), "user")],
)
def test_it_is_known_who_decides(defaults: Defaults, by: str) -> None:
    assert defaults.by == by


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
