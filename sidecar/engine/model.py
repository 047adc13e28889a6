"""The loaded model: weights, tokenizer and what was measured of them."""

import json
import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
from llguidance.hf import from_tokenizer
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import make_sampler
from mlx_lm.tokenizer_utils import TokenizerWrapper
from msgspec.structs import astuple

from sidecar.engine.grammar import Grammars
from sidecar.engine.prefix import Cache, nbytes
from sidecar.engine.prompt import PromptBuilder
from sidecar.frames import Sampling

POOL_LIMIT = 1 << 30
"""Bytes that MLX may keep in its pool of freed buffers; its own default on Metal is nearly all memory."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """Made and used on one thread only: MLX streams are thread-local."""

    weights: Any
    tokenizer: TokenizerWrapper
    prompts: PromptBuilder
    grammars: Grammars | None
    """None when llguidance cannot read the tokenizer: tools are then refused, since their calls could be invalid."""
    vocabulary: int
    """Width of the logits, which may exceed the tokenizer's."""
    bytes_per_token: int
    defaults: Sampling
    """Used where a request names no value of its own."""

    def new_cache(self) -> Cache:
        cache: Cache = make_prompt_cache(self.weights)
        return cache

    def sampler(self, sampling: Sampling) -> Any:
        """Equal settings give the same object: mlx-lm then samples the whole batch in one call."""
        temperature, top_p, top_k = (
            given if given is not None else default
            for given, default in zip(astuple(sampling), astuple(self.defaults), strict=True)
        )
        # top_k at or above the vocabulary's size raises inside mlx-lm's batch.
        return _sampler(temperature, top_p, top_k if top_k < self.vocabulary else 0)


_sampler = lru_cache(maxsize=64)(lambda temperature, top_p, top_k: make_sampler(temperature, top_p=top_p, top_k=top_k))


def load(path: Path) -> Model:
    """Load from a directory on disk; raises what mlx-lm raises for files that are missing or broken."""
    mx.set_cache_limit(POOL_LIMIT)
    mx.random.seed(int.from_bytes(os.urandom(4)))
    weights, tokenizer = mlx_lm.load(str(path))
    mx.eval(weights.parameters())
    vocabulary, bytes_per_token = _measure(weights)
    prompts = PromptBuilder(tokenizer)
    try:
        guide = from_tokenizer(tokenizer._tokenizer, vocabulary, sorted(tokenizer.eos_token_ids))
        grammars = Grammars(guide, tokenizer, prompts.calls)
    except ValueError as error:
        log.warning("tools will be refused, since llguidance cannot read this tokenizer: %s", error)
        grammars = None
    return Model(weights, tokenizer, prompts, grammars, vocabulary, bytes_per_token, recommended_sampling(path))


def recommended_sampling(path: Path) -> Sampling:
    """What generation_config.json says, as transformers reads it; the API's own defaults where it says nothing.

    Clients seldom send a temperature, and the API's 1.0 is too much for most small models.
    """
    try:
        config = json.loads((path / "generation_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        config = {}
    if config.get("do_sample") is False:
        return Sampling(0.0, 1.0, 0)
    return Sampling(*(config.get(key, plain) for key, plain in (("temperature", 1.0), ("top_p", 1.0), ("top_k", 0))))


def _measure(weights: Any) -> tuple[int, int]:
    """Run a few tokens through: the logits' width, and what a further token adds to the caches.

    Sturdier than reading configurations, whose keys differ from model to model. Caches grow in steps of 256 tokens.
    """
    cache = make_prompt_cache(weights)
    logits = weights(mx.zeros((1, 256), dtype=mx.int32), cache=cache)
    mx.eval(logits, [layer.state for layer in cache])
    before = nbytes(cache)
    mx.eval(weights(mx.zeros((1, 256), dtype=mx.int32), cache=cache), [layer.state for layer in cache])
    return logits.shape[-1], (nbytes(cache) - before) // 256
