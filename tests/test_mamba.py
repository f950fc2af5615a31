"""The selective scan against its closed form, a value computed outside of torch, and its limits."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dfpl.mamba import Mamba, MambaBlock, fused_scan, scan_fused, selective_scan


def inputs(
    steps: int, states: int = 3, channels: int = 4, scale: float = 1.0, dtype: Any = torch.float64
) -> list[Tensor]:
    """u, delta, A, B, C of two samples; `scale` is the mean of delta."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    delta = scale * normal(2, steps, channels).abs()
    a = -torch.arange(1.0, states + 1, dtype=dtype).expand(channels, -1).contiguous()
    return [
        normal(2, steps, channels),
        delta,
        a,
        normal(2, steps, states),
        normal(2, steps, states),
    ]


def closed_form(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> np.ndarray:
    """y_t = sum_{s <= t} C_t . (exp(A (S_t - S_s)) Delta_s B_s u_s),  S the cumulative sum of
    Delta; no exponent is positive."""
    u_, delta_, a_, b_, c_ = (x.detach().double().numpy() for x in (u, delta, a, b, c))
    total = delta_.cumsum(axis=1)
    y = np.zeros_like(u_)
    for t in range(u_.shape[1]):
        for s in range(t + 1):
            decay = np.exp((total[:, t] - total[:, s])[..., None] * a_)
            added = (delta_[:, s] * u_[:, s])[..., None] * b_[:, s, None]
            y[:, t] += (decay * added * c_[:, t, None]).sum(axis=2)
    return y


@pytest.mark.parametrize("states", [3, 17])  # 17: with checkpoints
@pytest.mark.parametrize("steps", [1, 3, 8, 20])
def test_the_scan_is_its_closed_form(steps: int, states: int) -> None:
    values = inputs(steps, states)
    found = selective_scan(*(x.requires_grad_() for x in values))
    np.testing.assert_allclose(found.detach().numpy(), closed_form(*values), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 0.05, 0.5, 5.0, 500.0])
def test_the_scan_is_exact_in_float32_at_every_scale(scale: float) -> None:
    values = inputs(51, 16, scale=scale, dtype=torch.float32)
    expected = closed_form(*values)
    found = selective_scan(*values).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_cumulative_products_that_are_not_used_do_overflow() -> None:
    u, delta, a, b, _ = inputs(51, 16, scale=0.5, dtype=torch.float32)
    product = (delta[..., None] * a).exp().cumprod(dim=1)
    added = (delta * u)[..., None] * b[:, :, None]
    assert not (product * (added / product).cumsum(dim=1)).isfinite().all()


@pytest.mark.parametrize("states", [3, 17])
def test_the_gradients_of_the_scan(states: int) -> None:
    values = [x.requires_grad_() for x in inputs(7 if states == 3 else 9, states, channels=2)]
    assert torch.autograd.gradcheck(selective_scan, values, fast_mode=states > 3)


def fill(shape: tuple[int, ...], k: float) -> Tensor:
    """Element i (from 1, row by row) is sin(i k)."""
    count = int(np.prod(shape))
    return torch.from_numpy(np.sin(np.arange(1, count + 1) * k).reshape(shape))


@torch.no_grad()
def test_a_layer_of_known_weights() -> None:
    layer = Mamba(2, 3).double()
    for parameter, k in (
        (layer.in_proj.weight, 0.31),
        (layer.conv1d.weight, 0.53),
        (layer.conv1d.bias, 0.17),
        (layer.x_proj.weight, 0.71),
        (layer.dt_proj.weight, 0.23),
        (layer.dt_proj.bias, 0.11),
        (layer.out_proj.weight, 0.37),
    ):
        assert parameter is not None
        parameter.copy_(fill(tuple(parameter.shape), k))
    layer.A_log.copy_(torch.arange(1, 4, dtype=torch.float64).log().expand(4, 3))
    expected = [
        [1.370094, 0.147827],
        [7.254475, -0.546132],
        [-5.516775, -0.774255],
        [-8.008919, -3.301415],
        [-0.020816, 0.475790],
    ]
    found = layer(fill((5, 2), 0.61)[None])
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=0, atol=1e-6)


@pytest.fixture
def layer() -> Mamba:
    torch.manual_seed(0)
    return Mamba(32, 16)


@torch.no_grad()
def test_no_step_sees_a_later_one(layer: Mamba) -> None:
    x = torch.randn(2, 12, 32)
    changed = x.clone()
    changed[:, 7] += 1
    before, after = layer(x), layer(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any(dim=2).all()


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_fewer_steps_than_the_convolution_is_wide(layer: Mamba, steps: int) -> None:
    x = torch.randn(2, 6, 32)
    torch.testing.assert_close(layer(x[:, :steps]), layer(x)[:, :steps])


@torch.no_grad()
def test_zeros_without_a_bias_give_zeros(layer: Mamba) -> None:
    assert layer.conv1d.bias is not None
    layer.conv1d.bias.zero_()
    assert not layer(torch.zeros(2, 9, 32)).any()


@torch.no_grad()
@pytest.mark.parametrize("width", [256, 512])
def test_a_new_layer_starts_as_it_should(width: int) -> None:
    layer = Mamba(width, 16)
    delta = torch.nn.functional.softplus(layer.dt_proj.bias)
    assert delta.min() > 0.00099 and delta.max() < 0.101
    assert delta.log().mean().item() == pytest.approx(np.log(0.01), abs=0.15)  # log-uniform
    decay = (-delta[:, None] * layer.A_log.exp()).exp()
    assert decay.min() > 0 and decay.max() < 1
    torch.testing.assert_close(layer.A_log[0].exp(), torch.arange(1.0, 17))
    assert layer.dt_proj.weight.abs().max() <= (width // 16) ** -0.5


@pytest.mark.parametrize(
    ("width", "states", "millions"), [(512, 16, 1.96), (512, 256, 2.70), (256, 16, 0.50)]
)
def test_the_number_of_parameters(width: int, states: int, millions: float) -> None:
    size = sum(p.numel() for p in MambaBlock(width, states).parameters())
    assert size / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_around_it_does_not_reach_the_scan(layer: Mamba, dtype: Any) -> None:
    x = torch.randn(1, 5, 32)
    exact = layer(x.to(dtype).float())
    assert torch.equal(layer(x.to(dtype)), exact)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x.to(dtype)), exact)


def kernel(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """What mamba_ssm's kernel is given and gives: (B, E, L), (E, S), (B, S, L)."""
    assert u.is_contiguous() and b.is_contiguous() and b.shape[1] == a.shape[1]
    return torch.from_numpy(closed_form(u.mT, delta.mT, a, b.mT, c.mT)).mT


def test_the_kernel_of_mamba_ssm_gets_the_steps_last() -> None:
    values = inputs(9)
    torch.testing.assert_close(scan_fused(kernel, *values), selective_scan(*values))


@pytest.fixture
def fresh() -> Iterator[None]:
    fused_scan.cache_clear()
    yield
    fused_scan.cache_clear()


def test_mamba_ssm_is_used_where_it_is_installed(
    fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, ops, interface = (ModuleType(name) for name in ("mamba_ssm", "ops", "interface"))
    vars(interface)["selective_scan_fn"] = kernel
    vars(ops)["selective_scan_interface"] = interface
    vars(package)["ops"] = ops
    monkeypatch.setitem(sys.modules, "mamba_ssm", package)
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops", ops)
    assert fused_scan() is kernel


def test_without_mamba_ssm_there_is_no_kernel(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    assert fused_scan() is None


@pytest.mark.skipif(
    not torch.cuda.is_available() or fused_scan() is None, reason="needs a GPU with mamba_ssm"
)
def test_the_kernel_says_the_same() -> None:
    values = [x.cuda() for x in inputs(51, 16, 64, dtype=torch.float32)]
    expected = closed_form(*(x.cpu() for x in values))
    np.testing.assert_allclose(selective_scan(*values).cpu().numpy(), expected, atol=1e-4)
