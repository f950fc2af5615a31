"""Entropic optimal transport between two small sets of prototypes, one problem per sample (Eq. 5).

Dimensions: B samples, K prototypes on the rows, L on the columns (in the paper L = K).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

TOLERANCE = 1e-11
"""A sample is solved when its row sums are right to this relative error."""
MOST_VIOLATION = 1e-5
"""Training fails where a plan's row or column sums are wrong by more than this."""
COOLING = 4.0
"""The temperature falls by this factor from level to level, down to epsilon."""
COOL_BELOW = 0.1
"""A sample goes on to its next level below this relative error of the row sums.

Cooled too soon, a plan that gives a row too many columns freezes in its error: seen at 0.33, for
points on a line, never at 0.25 or less.
"""
FIRST_RANGE = 8.0
"""Range of cost / temperature on the first level, where nearly any start converges."""
LONGEST_STEP = 3.0
"""Newton steps change no potential by more than this many temperatures."""
MOST_STEPS = 1000
"""Never reached: the worst seen is 156 at 1e5 / 1e-5. The violation tells if it ever is."""


class Transport(NamedTuple):
    value: Float[Tensor, " B"]
    """The regularised objective at its minimum; its gradient with respect to the cost is `plan`."""
    plan: Float[Tensor, "B K L"]
    violation: Float[Tensor, " B"]
    """Largest absolute error of the row and column sums of `plan`."""


def entropic_transport(cost: Float[Tensor, "B K L"], epsilon: float) -> Transport:
    """Transport uniform rows to uniform columns at the lowest regularised cost (Eq. 5).

        value = min_G  <G, C> + epsilon * sum_ij G_ij log G_ij,   G 1 = 1/K,  G^T 1 = 1/L

    The value lies below the unregularised minimum, by epsilon log max(K, L) to epsilon log(K L),
    so it may be negative. By the envelope theorem its gradient is the optimal plan: the problem
    is solved without autograd, then <G, C> is differentiated with G held fixed.

    Solved in float64 and returned in the dtype of `cost`. A sample whose cost is not finite has
    NaN everywhere and a gradient of 0; the other samples do not notice.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon}")
    finite = cost.isfinite().all(dim=2).all(dim=1)
    exact = cost.double().where(finite[:, None, None], 0.0)
    plan = solve(exact, epsilon).exp()
    value = (plan * exact).sum(dim=(1, 2)) - epsilon * torch.special.entr(plan).sum(dim=(1, 2))
    plan = plan.where(finite[:, None, None], torch.nan).to(cost.dtype)
    return Transport(value.where(finite, torch.nan).to(cost.dtype), plan, marginal_violation(plan))


def marginal_violation(plan: Float[Tensor, "B K L"]) -> Float[Tensor, " B"]:
    """The largest of |sum_j G_ij - 1/K| and |sum_i G_ij - 1/L|, summed in float64."""
    K, L = plan.shape[1:]
    rows = (plan.double().sum(dim=2) - 1 / K).abs().amax(dim=1)
    columns = (plan.double().sum(dim=1) - 1 / L).abs().amax(dim=1)
    return torch.maximum(rows, columns).to(plan.dtype)


@torch.no_grad()
def solve(cost: Float[Tensor, "B K L"], epsilon: float) -> Float[Tensor, "B K L"]:
    """The logarithm of each sample's optimal plan, in the dtype of `cost`.

    The state is log G = (f_i + g_j - C_ij) / temperature, the potentials never being formed: so
    a large constant or a large row in C is absorbed once and costs no digits afterwards. The
    temperature of a sample starts at the scale of its cost and is lowered to epsilon whenever
    the rows are roughly right; in between `ascent_step` climbs the dual. A sample that has
    arrived is left alone, so its result does not depend on its neighbours in the batch.
    """
    cost = cost - cost.amin(dim=2, keepdim=True)
    cost = cost - cost.amin(dim=1, keepdim=True)
    temperature = (cost.amax(dim=(1, 2), keepdim=True) / FIRST_RANGE).clamp(min=epsilon)
    log_plan = fit_columns(-cost / temperature)
    for _ in range(MOST_STEPS):
        error = row_error(log_plan)
        solved = (temperature <= epsilon) & (error <= TOLERANCE)  # (B, 1, 1)
        if solved.all():
            break
        cooled = (temperature / COOLING).clamp(min=epsilon).where(error < COOL_BELOW, temperature)
        moved = (log_plan + ascent_step(log_plan)[:, :, None]) * (temperature / cooled)
        log_plan = log_plan.where(solved, fit_columns(moved))
        temperature = cooled
    return log_plan


def fit_columns(log_plan: Float[Tensor, "B K L"]) -> Float[Tensor, "B K L"]:
    """Choose the column potentials g that make every column sum to 1/L."""
    return log_plan.log_softmax(dim=1) - math.log(log_plan.shape[2])


def row_error(log_plan: Float[Tensor, "B K L"]) -> Float[Tensor, "B 1 1"]:
    """The largest error of a row sum, relative to the 1/K it should be."""
    rows = log_plan.exp().sum(dim=2, keepdim=True)
    return (rows * log_plan.shape[1] - 1).abs().amax(dim=1, keepdim=True)


def ascent_step(log_plan: Float[Tensor, "B K L"]) -> Float[Tensor, "B K"]:
    """The better of a Sinkhorn step and a bounded Newton step on the row potentials.

    The dual, with the column potentials eliminated and in units of the temperature, gains

        D(x) = 1/K sum_i x_i - 1/L sum_j log( L sum_i G_ij exp(x_i) )

    from the step x. It is concave; Sinkhorn's x_i = log((1/K) / r_i) always gains, so the
    choice can never do worse than Sinkhorn, and near the optimum it converges quadratically.
    """
    sinkhorn = -math.log(log_plan.shape[1]) - log_plan.logsumexp(dim=2)  # (B, K)
    steps = torch.stack([sinkhorn, newton_step(log_plan, sinkhorn)])  # (2, B, K)
    columns = (log_plan + steps[..., None]).logsumexp(dim=2) + math.log(log_plan.shape[2])
    gain = steps.mean(dim=2) - columns.mean(dim=2)  # (2, B)
    newton_wins = gain[1] > gain[0] - 1e-13  # equal up to rounding: near the optimum
    return steps[1].where(newton_wins[:, None], sinkhorn)


def newton_step(
    log_plan: Float[Tensor, "B K L"], sinkhorn: Float[Tensor, "B K"]
) -> Float[Tensor, "B K"]:
    """Solve (I - S) x = (1/K) / r - 1, then shorten x to `LONGEST_STEP`.

    S_ik = sum_j G_ij / r_i * G_kj L is the chance to go from row i to row k by way of a column,
    and diag(r) (I - S) the negative Hessian of D. Divided by r_i like this nothing underflows;
    the diagonal of I - S is summed from the other entries, as 1 - S_ii has no digits left where
    the plan is nearly a permutation. The missing direction, a constant, is filled in by 1 r^T,
    the tiny ridge serves plans that fall apart into blocks.
    """
    K, L = log_plan.shape[1:]
    chain = log_plan.softmax(dim=2) @ (log_plan.exp() * L).mT  # (B, K, K)
    chain = chain * (1 - torch.eye(K, dtype=chain.dtype, device=chain.device))
    rows = log_plan.exp().sum(dim=2)
    system = torch.diag_embed(chain.sum(dim=2) + 1e-14) - chain + rows[:, None, :]
    step = torch.linalg.solve_ex(system, sinkhorn.clamp(max=30).expm1()).result
    longest = step.abs().amax(dim=1, keepdim=True)
    return step * (LONGEST_STEP / longest.clamp(min=LONGEST_STEP))
