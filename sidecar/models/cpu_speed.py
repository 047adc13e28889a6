"""How fast a model with packed weights is on a CPU alone, about: told before anybody downloads it. Pure."""

from dataclasses import dataclass

PASS = 256
"""Tokens of a prompt that are read at once."""
WRITES, UNPACKS, READS = 0.8, 0.22, 15.0
"""Billions of packed numbers that one core multiplies in a second with one token, and that it unpacks; and the same
for numbers times tokens, once they are unpacked. Measured with a layer of 896 by 4864, in 4 bits, on two cores of a
server: 2.9 ms for a token, 9.3 ms to unpack it, 36 ms for 256 tokens then."""
FEWEST_WRITTEN, FEWEST_READ = 1.0, 15.0
"""Tokens in a second with which a model is still of some use."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens in a second, about: how fast a model is on a CPU alone."""

    read: float
    written: float

    @property
    def is_bearable(self) -> bool:
        return self.read >= FEWEST_READ and self.written >= FEWEST_WRITTEN


def speed(parameters: float, active: float, cores: int) -> Speed:
    """Of packed weights. `parameters`, and `active` (those that one token passes through): in billions."""
    seconds = parameters / UNPACKS + active * PASS / READS
    return Speed(PASS * cores / seconds, WRITES * cores / active)
