"""Sums over all workers, differentiable, so that every loss is defined on the global batch.

Each worker computes the loss of the whole batch; the backward of a global sum is again a global
sum, and DistributedDataParallel's mean over workers then gives exactly the gradient of one
process (spec section 8).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def world_size() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


class _GlobalSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def global_sum(value: Tensor) -> Tensor:
    """Sum of `value` over all workers, with gradient; `value` itself when there is one."""
    if world_size() == 1:
        return value
    total: Tensor = _GlobalSum.apply(value)  # pyright: ignore[reportAssignmentType]
    return total


def global_rows(values: Float[Tensor, "B ..."]) -> Float[Tensor, "G ..."]:
    """The rows of all workers, with gradient, in the order of the global batch: the loader deals
    it in turn, so that row i of worker w is row w + W i."""
    if world_size() == 1:
        return values
    counts = values.new_zeros(world_size(), dtype=torch.long)
    counts[rank()] = len(values)
    dist.all_reduce(counts)
    most = int(counts.max())
    padded = values.new_zeros(most, world_size(), *values.shape[1:])
    padded[: len(values), rank()] = values
    there = torch.arange(most, device=values.device)[:, None] < counts  # (most, W)
    return global_sum(padded)[there]


def gather_objects(value: Any) -> list[Any]:
    """What each worker holds, on every worker."""
    if world_size() == 1:
        return [value]
    everyone: list[Any] = [None] * world_size()
    dist.all_gather_object(everyone, value)
    return everyone


def of_rank_0(make: Callable[[], Any]) -> Any:
    """What rank 0 makes, on every worker: for what must not differ between them."""
    value = [make() if rank() == 0 else None]
    if world_size() > 1:
        dist.broadcast_object_list(value, src=0)
    return value[0]


def global_max(values: Tensor) -> Tensor:
    """Largest of `values` over all workers, 0 where there are none; carries no gradient."""
    top = torch.cat([values.detach().flatten(), values.new_zeros(1)]).max()
    if world_size() > 1:
        dist.all_reduce(top, dist.ReduceOp.MAX)
    return top


class Moments(NamedTuple):
    """Of each channel over all workers' rows; 0 where nobody has a row."""

    mean: Float[Tensor, " C"]
    variance: Float[Tensor, " C"]
    count: Float[Tensor, ""]


def global_moments(values: Float[Tensor, "B C *rest"]) -> Moments:
    """Merge what each of the W workers knows of its own rows, in one exchange.

    n = sum_w n_w,  mean = sum_w n_w mean_w / n,
    variance = sum_w n_w (variance_w + (mean_w - mean)^2) / n

    No square of a raw value is summed, so a mean far from 0 costs no digits. In float32 at
    least, merged in float64.
    """
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    C, rows = values.shape[1], values.numel() // values.shape[1]
    own = torch.var_mean(exact, _all_but_channels(exact), correction=0) if rows else None
    variance, mean = own or exact.new_zeros(2, C)
    mine = torch.cat([mean, variance, exact.new_full((1,), rows)]).double()
    everyone = mine.new_empty(world_size(), len(mine))
    dist.all_gather(list(everyone), mine)
    means, variances, counts = everyone.split([C, C, 1], dim=1)  # (W, C), (W, C), (W, 1)
    share = counts / counts.sum().clamp(min=1)
    merged = (share * means).sum(dim=0)
    spread = (share * (variances + (means - merged).square())).sum(dim=0)
    return Moments(*(part.to(exact.dtype) for part in (merged, spread, counts.sum())))


class _Normalise(torch.autograd.Function):
    """y = weight x_hat + bias,  x_hat = (x - mean) / sqrt(variance + eps)

    The moments are those of the global batch, so that with means over the global batch

    dx = weight / sqrt(variance + eps) (dy - mean(dy) - x_hat mean(dy x_hat))

    The gradients of weight and bias are sums over the worker's own rows, as of any parameter.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, moments: Moments, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, *moments)
        ctx.eps = eps
        return F.batch_norm(x, moments.mean, moments.variance, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved, weight, mean, variance, count = ctx.saved_tensors
        x, dy = (value.to(mean.dtype) for value in (saved, gradients[0]))
        axes = _all_but_channels(x)
        x_hat = F.batch_norm(x, mean, variance, eps=ctx.eps)
        sums = torch.stack([(dy * x_hat).sum(axes), dy.sum(axes)])
        total = sums.clone()
        dist.all_reduce(total)
        scale = weight * (variance + ctx.eps).rsqrt()
        slope, shift = -scale * total / count
        dx = F.batch_norm(x, mean, variance, slope, shift, eps=ctx.eps)
        dx.addcmul_(dy, scale.view(-1, *[1] * (x.dim() - 2)))
        return dx.to(saved.dtype), sums[0], sums[1], None, None


def _all_but_channels(values: Tensor) -> list[int]:
    return [0, *range(2, values.dim())]


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation with the statistics of the global batch, on any device.

    Computes what BatchNorm computes in one process; torch's SyncBatchNorm does so on GPUs only.
    A worker may hold no rows at all. Keeps its input for the backward pass and nothing else that
    grows with the batch.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any (B, C, ...) will do."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        moments = global_moments(input.detach())
        self._track(moments)
        output: Any = _Normalise.apply(input, self.weight, self.bias, moments, self.eps)
        return output

    def _track(self, moments: Moments) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        mean, variance, count = moments
        self.num_batches_tracked += 1
        share = self.momentum * (count > 0).to(mean.dtype)  # nothing is learned from no rows
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), share)


def use_global_statistics(model: nn.Module) -> nn.Module:
    """Make every BatchNorm in `model` a GlobalBatchNorm; parameters and buffers stay the same
    objects."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.__class__ = GlobalBatchNorm
    return model
