"""One step of training: forward, weighted terms, backward, Adam. The loop is in `train`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dfpl.compute import Compute
from dfpl.config import OptimConfig
from dfpl.data.batch import Batch
from dfpl.method import Method, objective

Wrap = Callable[[nn.Module], nn.Module]


def same(model: nn.Module) -> nn.Module:
    return model


class Stepper:
    """A method, the model around it that training calls, and its optimiser."""

    def __init__(
        self, method: Method, config: OptimConfig, compute: Compute, wrap: Wrap = same
    ) -> None:
        """`wrap` makes the model a distributed one. What learns is what requires a gradient now."""
        self.method = method
        self.compute = compute
        model = _compiled(method) if compute.compile else method
        self.model = wrap(model) if learning(method) else model
        self.optimizer = torch.optim.AdamW(
            [{"params": learning(method)}],
            config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def step(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        """Train on a batch at this learning rate; returns the terms, and their weighted sum as
        `objective`."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        terms = self.terms(batch)
        total = objective(self.method, terms)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        self.method.after_step()
        return {**terms, "objective": total}

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The unweighted terms of a batch, from a forward pass in the chosen precision."""
        low = self.compute.precision == "bfloat16"
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=low):
            output = self.model(batch)
        return self.method.losses(in_float32(output) if low else output, batch)


def learning(method: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn in the method's present stage."""
    return [parameter for parameter in method.parameters() if parameter.requires_grad]


def _compiled(method: Method) -> nn.Module:
    from torch._dynamo import config  # slow to import: only where it is needed

    torch.compiler.reset()  # what other trials of this process compiled counts to its limit
    config.optimize_ddp = False  # it was seen to mix up the outputs of a distributed model
    compiled: Any = torch.compile(method)
    return compiled


def in_float32(value: Any) -> Any:
    """A nest of tuples, lists and dictionaries with its bfloat16 tensors as float32."""
    match value:
        case Tensor():
            return value.float() if value.dtype == torch.bfloat16 else value
        case dict():
            return {key: in_float32(part) for key, part in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return type(value)(*(in_float32(part) for part in value))
        case list() | tuple():
            return type(value)(in_float32(part) for part in value)
        case _:
            return value
