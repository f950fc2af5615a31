"""Sums over all workers, differentiable, so that every loss is defined on the global batch.

Each worker computes the loss of the whole batch; the backward of a global sum is again a global
sum, and DistributedDataParallel's mean over workers then gives exactly the gradient of one
process (spec section 8).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


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


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation with the statistics of the global batch, on any device.

    Computes what BatchNorm computes in one process; torch's SyncBatchNorm does so on GPUs only.
    A worker may hold no rows at all.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any (B, C, ...) will do."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        count = input.new_tensor([input.numel() // input.shape[1]])
        sums = global_sum(torch.cat([input.sum(axes), count]))
        total = sums[-1].detach().clamp(min=1)
        mean = sums[:-1] / total
        centred = input - mean.view(shape)
        variance = global_sum(centred.square().sum(axes)) / total
        self._track(mean.detach(), variance.detach(), sums[-1].detach())
        scale = (variance + self.eps).rsqrt() * self.weight
        return centred * scale.view(shape) + self.bias.view(shape)

    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        share = self.momentum * (count > 0).to(mean.dtype)  # nothing is learned from no rows
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), share)


def use_global_statistics(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm in `model` by GlobalBatchNorm, keeping parameters and buffers."""
    for name, child in model.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            twin = GlobalBatchNorm(child.num_features, child.eps, child.momentum or 0.1)
            twin.to(child.weight).load_state_dict(child.state_dict())
            setattr(model, name, twin.train(child.training))
        else:
            use_global_statistics(child)
    return model
