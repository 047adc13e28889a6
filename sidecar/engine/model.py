"""The loaded model: weights, tokenizer and what was measured of them."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
from llguidance.hf import from_tokenizer
from mlx_lm.sample_utils import make_sampler
from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.conversation import Sampling
from sidecar.engine.batching.batch import Sampler
from sidecar.engine.cache.disk_store import Disk
from sidecar.engine.cache.kv_format import KvFormat, kv_format
from sidecar.engine.cache.kv_layout import Cache, Layout
from sidecar.engine.calibration import find_out
from sidecar.engine.chunking import PACKED, PLAIN, Manner
from sidecar.engine.memory_costs import Costs
from sidecar.engine.packed_weights import adapt
from sidecar.engine.prompting.prompt_builder import PromptBuilder
from sidecar.engine.sampling import Defaults, recommended
from sidecar.engine.structured_output.grammar import Grammars
from sidecar.shared.config import kv_format_name

POOL_LIMIT = 1 << 30
"""Most bytes that MLX may keep in its pool of freed buffers; its own default on Metal is nearly all memory."""
POOL_SHARE = 16
"""Part of the memory (one in so many) that it may keep where that is less."""

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
    """As `Findings` has it; so are the next three, which hold to begin with."""
    costs: Costs
    pace: float
    step_s: float
    defaults: Defaults
    """What is sampled with where a request does not say."""
    kv: KvFormat
    one_by_one: str
    """Why streams must not be decoded as one batch; empty = they may."""
    pass_tokens: float
    """What a decode pass costs beside its rows: as much as attending to so many tokens."""
    disk: Disk | None
    """Where what it reads is kept; None where nothing is."""
    manner: Manner
    """In what pieces it reads well on this device."""

    def new_cache(self) -> Cache:
        return self.kv.new_cache(self.weights)

    def sampler(self, sampling: Sampling) -> Any:
        """Equal settings give the same object: a batch is then sampled in one call."""
        temperature, top_p, top_k = self.defaults.settled(sampling)
        # top_k at or above the vocabulary's size raises inside mlx-lm, in the middle of a batch.
        return sampler(temperature, top_p, top_k if top_k < self.vocabulary else 0)

    def temperature(self, sampling: Sampling) -> float:
        """What these settings sample with; 0 = always the likeliest token."""
        return self.defaults.settled(sampling).temperature


@lru_cache(maxsize=64)
def sampler(temperature: float, top_p: float, top_k: int) -> Sampler:
    """mlx-lm's, for logits as they are."""
    sample: Sampler = make_sampler(temperature, top_p=top_p, top_k=top_k)
    if not (temperature and 0 < top_p < 1):
        return sample
    # It alone needs probabilities. The others do not see what is added to all logits alike, and to find that takes 2 ms
    # of a CPU for 150,000 of them.
    return lambda logits: sample(logits - mx.logsumexp(logits, axis=-1, keepdims=True))


def load(
    path: Path,
    memory: int,
    kv_bits: str = "16",
    open_disk: Callable[[str], Disk | None] = lambda layout: None,
    temperature: float | None = None,
) -> Model:
    """Load from a directory on disk; raises what mlx-lm raises for files that are missing or broken.

    `memory`: the most bytes that there could be on this machine; `kv_bits`: what its caches should be quantised to;
    `open_disk`: where what it reads is kept, by its caches' layout; `temperature`: the user's own, None = not set.
    """
    mx.set_cache_limit(min(POOL_LIMIT, memory // POOL_SHARE))
    mx.random.seed(int.from_bytes(os.urandom(4)))
    weights, tokenizer = mlx_lm.load(str(path))
    mx.eval(weights.parameters())
    is_adapted = adapt(weights)
    numbers = "float32 from packed weights" if is_adapted else ""
    if is_adapted:
        log.info("there is no GPU: packed weights are computed with in float32, and unpacked to read prompts")
    kv = kv_format(weights, kv_bits)
    new_cache = partial(kv.new_cache, weights)
    disk = open_disk(Layout(new_cache).name + numbers)
    found = find_out(weights, new_cache, f"{kv} {numbers}", disk.folder if disk else None)
    one_by_one = found.one_by_one
    log.debug("costs: %s", found.costs)
    prompts = PromptBuilder(tokenizer)
    try:
        guide = from_tokenizer(tokenizer._tokenizer, found.vocabulary, sorted(tokenizer.eos_token_ids))
        grammars = Grammars(guide, tokenizer, prompts.calls, found.vocabulary)
    except ValueError as error:
        log.warning("tools will be refused, since llguidance cannot read this tokenizer: %s", error)
        grammars = None
    if not kv.plain:
        log.info("%s, in groups of %d", kv_format_name(kv.bits), kv.group)
    if one_by_one:
        log.warning("streams are decoded one by one: %s", one_by_one)
    mx.clear_cache()
    return Model(
        weights,
        tokenizer,
        prompts,
        grammars,
        found.vocabulary,
        found.costs,
        found.pace,
        found.step_s,
        Defaults(temperature, recommended(path), bool(tokenizer.has_thinking)),
        kv,
        one_by_one,
        mx.get_active_memory() / max(1, found.costs.per_token or found.costs.row(1)),
        disk,
        PACKED if is_adapted else PLAIN,
    )
