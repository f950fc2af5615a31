"""Random numbers in a training step that do not depend on how many workers share it.

Every number is a hash of the run, the step, the sample's place in the global batch and a purpose,
so that it needs no generator, is the same on every device, and comes again after a restart. The
loader deals a global batch to W workers in turn (`Loader.epoch`): row i of worker w is sample
w + W i.
"""

from math import pi, prod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfpl.distributed import rank, world_size


class StepNoise(nn.Module):
    """The random numbers of a method: forward passes of one step meet the same ones.

    A method that has one calls `advance` in its `after_step`.
    """

    seed: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(2**62, ()))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def advance(self) -> None:
        self.step += 1

    def uniform(self, rows: int, shape: tuple[int, ...], purpose: int) -> Float[Tensor, "B ..."]:
        """Numbers in (0, 1) for each of this worker's rows, independent between purposes."""
        here = torch.arange(rows, device=self.seed.device)
        place = rank() + world_size() * here
        run = _mix(_mix(self.seed + purpose) ^ self.step)
        row = _mix(run ^ place)[:, None]
        column = torch.arange(prod(shape), device=self.seed.device)
        bits = _mix(row + _GOLDEN * column)
        # the middles of 2^23 cells: exact in float32, and never 0 or 1
        return ((_shift(bits, 41) + 0.5) * 2.0**-23).view(rows, *shape)

    def normal(self, rows: int, width: int, purpose: int) -> Float[Tensor, "B D"]:
        """Standard normal numbers, from two uniform ones each (Box and Muller):

        sqrt(-2 log u) cos(2 pi v)
        """
        u, v = self.uniform(rows, (2, width), purpose).unbind(dim=1)
        return (-2 * u.log()).sqrt() * (2 * pi * v).cos()


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as signed 64-bit numbers, which wrap around in torch
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def _mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """One round of splitmix64."""
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def _shift(x: Int[Tensor, "..."], bits: int) -> Int[Tensor, "..."]:
    """To the right, filled with zeros: torch's own shift would copy the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def drop_modality(
    available: Bool[Tensor, "B 2"], uniform: Float[Tensor, " B"], states: Bool[Tensor, " 3"]
) -> Bool[Tensor, "B 2"]:
    """Put each complete sample into one of the `states` (both, image only, table only) that may
    be, at equal chances; an incomplete one stays as it is, and none loses both."""
    order = states.long().cumsum(dim=0)  # the number of each state that may be, from 1
    drawn = (uniform * order[-1]).floor().long() + 1
    hit = (drawn[:, None] == order) & states  # (B, 3)
    keeps_image, keeps_table = ~hit[:, 2], ~hit[:, 1]
    complete = available.all(dim=1, keepdim=True)
    return available & (torch.stack([keeps_image, keeps_table], dim=1) | ~complete)
