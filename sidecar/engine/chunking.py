"""In what chunks a model prefills well."""

from dataclasses import dataclass

from sidecar.engine.memory_costs import SHORTEST_CHUNK

FEW = 32
"""Tokens of a prompt that the pass for the first token reads as well: a turn that adds few then takes one pass, no two.
It computes logits for each of them, which is nothing beside a pass over the weights as long as they are few."""


@dataclass(frozen=True, slots=True)
class Manner:
    """In what pieces a model reads well, for its kind and device."""

    piece: int = SHORTEST_CHUNK
    """Shorter ones waste too much. Beside streams a quarter of it will do."""
    few: int = FEW
    """Tokens that the pass for the first one reads as well, at most."""


PLAIN = Manner()
PACKED = Manner(piece=256, few=5)
"""On a CPU weights are unpacked for each pass of 6 tokens and more, which takes as long as 80 tokens do; and logits are
computed from packed ones, one token after the other."""
