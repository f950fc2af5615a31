"""A selective state-space layer (Mamba, arXiv 2312.00752) in PyTorch, without special kernels.

    u, z = W_in x;   u = SiLU(causal convolution of u, channel by channel)
    delta, B, C = W_x u;   Delta = softplus(W_delta delta + b)
    h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t,   y_t = C_t h_t + D u_t
    out = W_out (y SiLU(z))

Written from the equations; parameters have the names of the package `mamba_ssm`, so that its
weights fit. Its scan is used on a GPU where it is installed.

Dimensions: B samples, L steps, D width, E = 2 D channels, S states of each, R rank of delta.
"""

from collections.abc import Callable
from functools import cache
from math import log
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CONVOLUTION = 4
_CHUNK = 8
"""Steps whose states are computed once more in the backward pass, where they are many."""
_MANY_STATES = 16


class Mamba(nn.Module):
    """A sequence in which each step may have been changed by those before it, and by no other."""

    def __init__(self, width: int, num_states: int) -> None:
        super().__init__()
        channels, rank = 2 * width, -(-width // 16)
        self.sizes = [rank, num_states, num_states]
        self.in_proj = nn.Linear(width, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(
            channels, channels, CONVOLUTION, groups=channels, padding=CONVOLUTION - 1
        )
        self.x_proj = nn.Linear(channels, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.arange(1.0, num_states + 1).log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, width, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(_start_of_delta(channels))

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """In float32 at least, whatever the precision around it."""
        with torch.autocast(x.device.type, enabled=False):
            return self._forward(x.to(torch.promote_types(x.dtype, torch.float32)))

    def _forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv1d(u.mT)[..., : x.shape[1]].mT)
        low, b, c = self.x_proj(u).split(self.sizes, dim=-1)
        delta = F.softplus(self.dt_proj(low))
        y = selective_scan(u, delta, -self.A_log.exp(), b, c) + self.D * u
        return self.out_proj(y * F.silu(z))


class MambaBlock(nn.Module):
    """x + Mamba(norm x), then x + W norm x + b."""

    def __init__(self, width: int, num_states: int) -> None:
        super().__init__()
        self.scan_norm = nn.LayerNorm(width)
        self.scan = Mamba(width, num_states)
        self.linear_norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        x = x + self.scan(self.scan_norm(x))
        return x + self.linear(self.linear_norm(x))


def _start_of_delta(channels: int) -> Float[Tensor, " E"]:
    """The bias b for which softplus(b) is log-uniform in [0.001, 0.1]."""
    delta = (torch.rand(channels) * log(0.1 / 0.001) + log(0.001)).exp()
    return delta + (-torch.expm1(-delta)).log()


def selective_scan(
    u: Float[Tensor, "B L E"],
    delta: Float[Tensor, "B L E"],
    a: Float[Tensor, "E S"],
    b: Float[Tensor, "B L S"],
    c: Float[Tensor, "B L S"],
) -> Float[Tensor, "B L E"]:
    """y_t = C_t h_t for h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t, from h = 0.

    Step by step: with A < 0 < Delta no factor exceeds 1, so nothing can overflow. (The cumulative
    products that would do it at once do: already where Delta is 0.5 with 16 states.)
    """
    fused = fused_scan() if u.is_cuda and u.dtype == torch.float32 else None
    if fused is not None:
        return scan_fused(fused, u, delta, a, b, c)
    state = u.new_zeros(len(u), *a.shape)
    outputs = []
    for start in range(0, u.shape[1], _CHUNK):
        steps = slice(start, start + _CHUNK)
        inputs = (state, u[:, steps], delta[:, steps], a, b[:, steps], c[:, steps])
        if a.shape[1] > _MANY_STATES and torch.is_grad_enabled():
            found: Any = checkpoint(_scan, *inputs, use_reentrant=False, preserve_rng_state=False)
        else:
            found = _scan(*inputs)
        output, state = found
        outputs.append(output)
    return torch.cat(outputs, dim=1)


def _scan(
    state: Float[Tensor, "B E S"],
    u: Float[Tensor, "B l E"],
    delta: Float[Tensor, "B l E"],
    a: Float[Tensor, "E S"],
    b: Float[Tensor, "B l S"],
    c: Float[Tensor, "B l S"],
) -> tuple[Float[Tensor, "B l E"], Float[Tensor, "B E S"]]:
    """A few steps from a state on; returns what they give and the state after them."""
    outputs = []
    for t in range(u.shape[1]):
        decay = (delta[:, t, :, None] * a).exp()
        state = decay * state + (delta[:, t] * u[:, t])[..., None] * b[:, t, None]
        outputs.append((state @ c[:, t, :, None])[..., 0])
    return torch.stack(outputs, dim=1), state


@cache
def fused_scan() -> Callable[..., Tensor] | None:
    """The scan of `mamba_ssm`, or None where it is not installed."""
    try:
        from mamba_ssm.ops import (  # pyright: ignore[reportMissingImports]
            selective_scan_interface as interface,
        )
    except ImportError:
        return None
    return interface.selective_scan_fn


def scan_fused(
    scan: Callable[..., Tensor],
    u: Float[Tensor, "B L E"],
    delta: Float[Tensor, "B L E"],
    a: Float[Tensor, "E S"],
    b: Float[Tensor, "B L S"],
    c: Float[Tensor, "B L S"],
) -> Float[Tensor, "B L E"]:
    """The same by the kernel, which has the steps last."""
    u, delta, b, c = (x.mT.contiguous() for x in (u, delta, b, c))
    return scan(u, delta, a, b, c).mT
