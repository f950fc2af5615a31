"""How the cost of DFPL grows: batch, prototypes, classes, width, tokens, columns.

Run       python tests/benchmarks/growth.py
Makes     runs/benchmarks/growth.json
Shows     time and kept bytes of one forward and backward pass from given tokens (everything after
          the encoders: prototypes, aggregation, all losses), one size varied at a time; of the
          whole model against the batch; of the tabular encoder alone against its columns. With
          the slope of log cost over log size between the larger half of the sizes: 1 is linear.
          Nothing may be worse than linear in batch, classes and tokens; attention between
          columns is quadratic in them once it outweighs the maps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import tyro
from bench import Row, Spread, exponent, publish, take_turns
from shapes import Shape, batch_of, dfpl_of
from torch import Tensor, nn

from dfpl.encoders import Tokens
from dfpl.memory import SavedBytes
from dfpl.method import objective


@dataclass(frozen=True)
class Settings:
    batch: tuple[int, ...] = (64, 128, 256, 512)
    prototypes: tuple[int, ...] = (3, 5, 10, 16, 24, 32)
    classes: tuple[int, ...] = (3, 30, 100, 300, 1000)
    width: tuple[int, ...] = (64, 128, 256, 512)
    tokens: tuple[int, ...] = (4, 16, 64, 256)
    """Per branch of each modality; 16 at 128 x 128 pixels, 49 at 224 x 224."""
    columns: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Of the table, a quarter of them categorical."""
    start: Shape = field(
        default_factory=lambda: Shape(
            batch=128, image_size=64, width=128, image_network="small", classes=30
        )
    )
    """What is not varied."""
    start_tokens: int = 16
    rounds: int = 7
    threads: int = 1
    device: str = "cuda" if torch.cuda.is_available() else "cpu"


class Given(nn.Module):
    """Stands in for an encoder: tokens that are already there."""

    def __init__(self, shape: Shape, tokens: int, device: str) -> None:
        super().__init__()
        size = (shape.batch, tokens, shape.width)
        self.shared = nn.Parameter(torch.randn(size, device=device))
        self.specific = nn.Parameter(torch.randn(size, device=device))

    def forward(self, *_: Tensor) -> Tokens:
        return Tokens(self.shared, self.specific)


class Head:
    """DFPL from given tokens: forward and backward, without encoders and without an optimiser."""

    def __init__(self, shape: Shape, tokens: int, device: str) -> None:
        self.model: Any = dfpl_of(shape, device)
        self.model.image_encoder = Given(shape, tokens, device)
        self.model.tabular_encoder = Given(shape, tokens, device)
        self.batch = batch_of(replace(shape, image_size=8), device)

    def __call__(self) -> None:
        self.model.zero_grad()
        self.objective().backward()

    def objective(self) -> Tensor:
        return objective(self.model, self.model.losses(self.model(self.batch), self.batch))

    def kept(self) -> int:
        with SavedBytes([*self.model.parameters(), *self.batch]) as saved:
            self.objective()
        return saved.total


class Step(Head):
    """A whole training pass, encoders included, without an optimiser."""

    def __init__(self, shape: Shape, device: str) -> None:
        self.model = dfpl_of(shape, device)
        self.batch = batch_of(shape, device)


class Table(Head):
    """The tabular encoder alone."""

    def __init__(self, shape: Shape, device: str) -> None:
        self.model = dfpl_of(shape, device).tabular_encoder
        self.batch = batch_of(replace(shape, image_size=8), device)

    def objective(self) -> Tensor:
        tokens = self.model(self.batch, self.batch.available[:, 1])
        return tokens.shared.square().mean() + tokens.specific.square().mean()


def measure(settings: Settings) -> list[Row]:
    torch.set_num_threads(settings.threads)
    start, tokens, device = settings.start, settings.start_tokens, settings.device

    def head(name: str, size: int) -> Head:
        return Head(replace(start, **{name: size}), tokens, device)

    rows = []
    for name in ("batch", "prototypes", "classes", "width"):
        rows += vary(name, {size: head(name, size) for size in getattr(settings, name)}, settings)
    heads = {size: Head(start, size, device) for size in settings.tokens}
    rows += vary("tokens", heads, settings)
    steps = {size: Step(replace(start, batch=size), device) for size in settings.batch}
    rows += vary("batch, encoders included", steps, settings)
    tables = {
        size: Table(replace(start, numeric=size - size // 4, category=size // 4), device)
        for size in settings.columns
    }
    return rows + vary("columns, tabular encoder alone", tables, settings)


def vary(name: str, cases: Mapping[int, Head], settings: Settings) -> list[Row]:
    sizes = list(cases)
    seconds = take_turns({str(size): case for size, case in cases.items()}, settings.rounds)
    milliseconds = [1000 * Spread.of(seconds[str(size)]).median for size in sizes]
    kept = [case.kept() / 2**20 for case in cases.values()]
    upper = len(sizes) // 2
    slopes = [exponent(sizes[upper:], found[upper:]) for found in (milliseconds, kept)]
    return [
        {
            "varied": name,
            "size": size,
            "ms": time,
            "MiB kept": memory,
            "slope of time": slopes[0] if size == sizes[-1] else None,
            "slope of memory": slopes[1] if size == sizes[-1] else None,
        }
        for size, time, memory in zip(sizes, milliseconds, kept, strict=True)
    ]


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("growth", "Cost against one size at a time", measure(settings), settings)
