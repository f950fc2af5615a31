"""The transport of Eq. 5 against POT's batch solver: value and gradient, in turns.

Run       python tests/benchmarks/transport.py
Makes     runs/benchmarks/transport.json
Shows     per K, regime and epsilon: how many times as long POT takes, and what both leave wrong
          in the row and column sums. `raw` prototypes are N(0, 1) in D dimensions, costs near
          2 D; `unit` ones have length 1; `near` ones length 0.05. POT stops after its default of
          1,000 iterations, solved or not.
"""

import warnings
from dataclasses import dataclass

import ot
import torch
import torch.nn.functional as F
import tyro
from bench import Row, publish, ratio, take_turns, time_once
from torch import Tensor

from dfpl.alignment import transport_cost
from dfpl.transport import batch_last, entropic_transport, marginal_violation

LENGTHS = {"raw": None, "unit": 1.0, "near": 0.05}


@dataclass(frozen=True)
class Settings:
    samples: int = 256
    """Batch size B; both terms of Eq. 5 are solved in one call, so 2 B problems."""
    width: int = 512
    """D, size of a prototype."""
    prototypes: tuple[int, ...] = (2, 5, 15, 32)
    """Values of K."""
    epsilons: tuple[float, ...] = (0.01, 0.1, 1.0)
    rounds: int = 5
    """At least; more of a case whose rounds are short."""
    seconds: float = 1.0
    """For each case, if that is more than `rounds` take."""
    threads: int = 1


def measure(settings: Settings) -> list[Row]:
    torch.set_num_threads(settings.threads)
    warnings.simplefilter("ignore")  # POT warns where it did not converge
    return [
        compare(regime, K, epsilon, settings)
        for K in settings.prototypes
        for regime in LENGTHS
        for epsilon in settings.epsilons
    ]


def compare(regime: str, K: int, epsilon: float, settings: Settings) -> Row:
    cost = costs(regime, K, settings)
    uniform = torch.full((len(cost), K), 1 / K)

    def ours() -> Tensor:
        leaf = cost.clone().requires_grad_()
        result = entropic_transport(leaf, epsilon)
        result.value.sum().backward()
        return result.plan

    def pots() -> Tensor:
        leaf = cost.clone().requires_grad_()
        result = ot.batch.solve_batch(leaf, epsilon, uniform, uniform, reg_type="entropy")
        value, plan = result.value, result.plan
        assert isinstance(value, Tensor) and isinstance(plan, Tensor)
        value.sum().backward()
        return plan.detach()

    calls = {"ours": ours, "POT": pots}
    left = {name: marginal_violation(batch_last(call())).max() for name, call in calls.items()}
    rounds = max(settings.rounds, int(settings.seconds / sum(map(time_once, calls.values()))))
    seconds = take_turns(calls, rounds, warmup=0)
    return {
        "K": K,
        "prototypes": regime,
        "epsilon": epsilon,
        "POT / ours": ratio(seconds["POT"], seconds["ours"]),
        "violation, ours": left["ours"].item(),
        "violation, POT": left["POT"].item(),
    }


def costs(regime: str, K: int, settings: Settings) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (2 * settings.samples, K, settings.width)
    sides = [torch.randn(shape, generator=generator) for _ in range(2)]
    length = LENGTHS[regime]
    if length is not None:
        sides = [length * F.normalize(side, dim=-1) for side in sides]
    return transport_cost(*sides)


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("transport", "Transport: how many times as long POT takes", measure(settings), settings)
