"""Entropic optimal transport between two small sets of prototypes, one problem per sample (Eq. 5).

Dimensions: B samples, K prototypes on the rows, L on the columns (in the paper L = K).

Where the costs are within a few epsilon, plain Sinkhorn sweeps on exp(-C / epsilon) arrive in a
handful of cheap sums. Elsewhere they would need thousands: there, in float64, the temperature
is lowered from the scale of the cost to epsilon, and Newton steps climb the dual at each level.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

TOLERANCE = {torch.float64: 1e-11}
"""A sample is solved when its row sums are right to this relative error, by type of the cost."""
TOLERANCE_ELSE = 1e-6
"""The same for float32: some roundings of a sum in it."""
MOST_VIOLATION = 1e-5
"""Training fails where a plan's row or column sums are wrong by more than this."""
SWEPT_RANGE = 16.0
"""Largest range of cost / epsilon for which sweeps are tried first."""
SWEEPS = 24
"""Sweeps before what is left goes to Newton's method."""
FIRST_RANGE = 8.0
"""Range of cost / temperature on the first level, where nearly any start converges."""
COOLING = 4.0
"""The temperature falls by this factor from level to level, down to epsilon."""
COOL_BELOW = 0.1
"""A sample goes on to its next level below this relative error of the row sums.

Cooled too soon, a plan that gives a row too many columns freezes in its error: seen at 0.33, for
points on a line, never at 0.25 or less.
"""
MOST_STEPS = 500
"""Never reached; the violation tells if it ever is."""


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
    is solved without autograd, and the backward pass multiplies by the plan.

    For float32 and float64. A sample whose cost is not finite has NaN everywhere and a gradient
    of 0; the other samples do not notice. To torch.compile it is one operation.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon}")
    solved = _operation if torch.compiler.is_compiling() else _Solved.apply
    return Transport(*solved(cost, epsilon))


class _Solved(torch.autograd.Function):
    """The operation below with less around it (30 us of 200): what runs where no compiler does."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        output = _solve(cost, epsilon)
        _keep_plan(ctx, (cost, epsilon), output)
        return output

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return _times_plan(ctx, *slopes)


def _solve(cost: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    exact = cost.double() if cost.is_cuda else cost  # a GPU has float64 to spare for this little
    value, plan = solve(exact, epsilon, TOLERANCE.get(cost.dtype, TOLERANCE_ELSE))
    plan = plan.to(cost.dtype)
    return value.to(cost.dtype), batch_first(plan), marginal_violation(plan)


def _keep_plan(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, ...]) -> None:
    _, plan, violation = output
    ctx.mark_non_differentiable(plan, violation)
    ctx.save_for_backward(plan)


def _times_plan(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor, None]:
    (plan,) = ctx.saved_tensors
    return slope[:, None, None] * plan.nan_to_num(0.0), None


_operation = torch.library.custom_op("dfpl::entropic_transport", _solve, mutates_args=())
_operation.register_autograd(_times_plan, setup_context=_keep_plan)


@_operation.register_fake
def _(cost: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    return cost.new_empty(len(cost)), cost.new_empty(cost.shape), cost.new_empty(len(cost))


def batch_last(cost: Float[Tensor, "B K L"]) -> Float[Tensor, "K L B"]:
    """Samples side by side in memory: sums over a few rows or columns, which then add whole
    vectors, are 4 to 6 times as fast for K = 5."""
    return cost.flatten(1).T.contiguous().unflatten(0, cost.shape[1:])


def batch_first(plan: Float[Tensor, "K L B"]) -> Float[Tensor, "B K L"]:
    """The layout of `entropic_transport`, back from that of the sums."""
    return plan.flatten(0, 1).T.contiguous().unflatten(1, plan.shape[:2])


def marginal_violation(plan: Float[Tensor, "K L B"]) -> Float[Tensor, " B"]:
    """The largest of |sum_j G_ij - 1/K| and |sum_i G_ij - 1/L|."""
    K, L = plan.shape[:2]
    errors = torch.cat([plan.sum(dim=1) - 1 / K, plan.sum(dim=0) - 1 / L])
    return errors.abs_().amax(dim=0)


@torch.no_grad()
def solve(
    cost: Float[Tensor, "B K L"], epsilon: float, tolerance: float
) -> tuple[Float[Tensor, " B"], Float[Tensor, "K L B"]]:
    """Each sample's value and optimal plan; NaN where the cost is not finite.

    The value comes from C + epsilon log G = f_i + g_j: the mean of all entries is the dual value
    mean f + mean g, whose error is that of G squared.
    """
    if not len(cost):
        return cost.sum(dim=(1, 2)), batch_last(torch.zeros_like(cost))
    last = batch_last(cost)
    relative = reduce(last)
    reach = relative.amax(dim=(0, 1))  # not finite where any of them is not
    near = reach <= SWEPT_RANGE * epsilon
    if near.all():
        plan, error = sweep(relative, epsilon, tolerance)
        left = error > tolerance
    else:
        plan, left = torch.full_like(last, torch.nan), reach.isfinite()
        if near.any():
            plan[:, :, near], error = sweep(relative[:, :, near], epsilon, tolerance)
            left[near] = error > tolerance
    value = last.mean(dim=(0, 1)) + epsilon * plan.log().mean(dim=(0, 1))
    if left.any():
        exact = cost[left].double()
        log_plan = climb(batch_first(reduce(batch_last(exact))), epsilon, tolerance)
        value[left] = torch.add(exact, log_plan, alpha=epsilon).mean(dim=(1, 2)).to(value.dtype)
        plan[:, :, left] = batch_last(log_plan.exp()).to(plan.dtype)
    return value, plan


def reduce(cost: Float[Tensor, "K L B"]) -> Float[Tensor, "K L B"]:
    """Take off what depends on a row or a column alone: it does not change the plan, and a large
    constant costs no digits afterwards."""
    relative = cost - cost.amin(dim=1, keepdim=True)
    return relative.sub_(relative.amin(dim=0))


def sweep(
    cost: Float[Tensor, "K L B"], epsilon: float, tolerance: float
) -> tuple[Float[Tensor, "K L B"], Float[Tensor, " B"]]:
    """Sinkhorn's iteration on the plan itself, from exp(-C / epsilon): rows and columns in turns
    are divided by what they sum to. The plan, and the largest relative error of its row sums.
    The plan takes the memory of `cost`.

    All samples go on until the last has arrived, as a further sweep can only bring one closer.
    """
    K, L = cost.shape[:2]
    plan = cost.div_(-epsilon).exp_()
    plan /= plan.sum(dim=0).mul_(L)
    for _ in range(SWEEPS):
        rows = plan.sum(dim=1, keepdim=True).mul_(K)  # 1 where they are right
        low, high = rows.aminmax()
        if max(1 - low.item(), high.item() - 1) <= tolerance:
            break
        plan /= rows
        plan /= plan.sum(dim=0).mul_(L)
    return plan, rows.sub_(1).abs_().amax(dim=(0, 1))


@torch.inference_mode()
def climb(cost: Float[Tensor, "B K L"], epsilon: float, tolerance: float) -> Float[Tensor, "B K L"]:
    """Newton's method on the dual, from a high temperature down to epsilon.

    The state is log G = (f_i + g_j - C_ij) / temperature, the potentials never being formed. The
    temperature of a sample starts at the scale of its cost and is lowered whenever the rows are
    roughly right. A sample that has arrived leaves the batch.
    """
    found = torch.empty_like(cost)
    left = torch.arange(len(cost), device=cost.device)
    temperature = (cost.amax(dim=(1, 2)) / FIRST_RANGE).clamp(min=epsilon)
    log_plan = fit_columns(cost / -temperature[:, None, None])
    for _ in range(MOST_STEPS):
        share, log_row = split_rows(log_plan)
        error = (log_row + math.log(cost.shape[1])).expm1().abs_().amax(dim=1)
        solved = (temperature <= epsilon) & (error <= tolerance)
        if solved.any():
            found[left[solved]] = log_plan[solved]
            left, log_plan, temperature, share, log_row, error = (
                part[~solved] for part in (left, log_plan, temperature, share, log_row, error)
            )
        if not len(left):
            return found
        cooled = (temperature / COOLING).clamp(min=epsilon)
        cooled = cooled.where(error < COOL_BELOW, temperature)
        moved = log_plan + ascent_step(share, log_row)[:, :, None]
        log_plan = fit_columns(moved * (temperature / cooled)[:, None, None])
        temperature = cooled
    found[left] = log_plan
    return found


def fit_columns(log_plan: Float[Tensor, "B K L"]) -> Float[Tensor, "B K L"]:
    """Choose the column potentials g that make every column sum to 1/L."""
    top = log_plan.amax(dim=1, keepdim=True)
    column = (log_plan - top).exp_().sum(dim=1, keepdim=True).log_().add_(top)
    return log_plan - (column + math.log(log_plan.shape[2]))


def split_rows(
    log_plan: Float[Tensor, "B K L"],
) -> tuple[Float[Tensor, "B K L"], Float[Tensor, "B K"]]:
    """G_ij = share_ij exp(log_row_i): how a row is spread, and its sum, which may underflow.

    (By hand, since torch's softmax over a short last dimension is many times slower.)
    """
    top = log_plan.amax(dim=2, keepdim=True)
    share = (log_plan - top).exp_()
    row = share.sum(dim=2, keepdim=True)
    return share.div_(row), row.log_().add_(top).squeeze(2)


def ascent_step(
    share: Float[Tensor, "B K L"], log_row: Float[Tensor, "B K"]
) -> Float[Tensor, "B K"]:
    """The better of a Sinkhorn step and a damped Newton step on the row potentials.

    The dual, with the column potentials eliminated and in units of the temperature, gains

        D(x) = 1/K sum_i x_i - 1/L sum_j log( L sum_i G_ij exp(x_i) )

    from the step x. It is concave; Sinkhorn's x_i = log((1/K) / r_i) always gains, so the
    choice can never do worse than Sinkhorn, and near the optimum it converges quadratically.
    """
    K = share.shape[1]
    sinkhorn = -math.log(K) - log_row
    newton = newton_step(share, log_row)
    after_sinkhorn = share.sum(dim=1) / K  # (B, L): the new column sums
    after_newton = ((log_row + newton).exp_()[:, None] @ share)[:, 0]
    gain = newton.mean(dim=1) - _mean_log(after_newton)
    newton_wins = (
        gain > sinkhorn.mean(dim=1) - _mean_log(after_sinkhorn) - 1e-13
    )  # but for rounding
    return newton.where(newton_wins[:, None], sinkhorn)


def _mean_log(sums: Float[Tensor, "B L"]) -> Float[Tensor, " B"]:
    return sums.clamp(min=1e-300).log_().mean(dim=1)


def newton_step(
    share: Float[Tensor, "B K L"], log_row: Float[Tensor, "B K"]
) -> Float[Tensor, "B K"]:
    """Solve (I - S) x = (1/K) / r - 1, then shorten x from a length m to log(1 + m).

    S_ik = sum_j G_ij / r_i * G_kj L is the chance to go from row i to row k by way of a column,
    and diag(r) (I - S) the negative Hessian of D. Divided by r_i like this nothing underflows;
    the diagonal of I - S is summed from the other entries, as 1 - S_ii has no digits left where
    the plan is nearly a permutation. The missing direction, a constant, is filled in by 1 r^T,
    the tiny ridge serves plans that fall apart into blocks.

    Two blocks joined by a flow w that should be w + d gain d x - w (e^x - 1 - x): the best x is
    log(1 + d / w) where Newton's is d / w, and no other bound of the step was found as good.
    """
    K, L = share.shape[1:]
    row = log_row.exp()
    chain = share @ (share * (L * row)[:, :, None]).mT  # (B, K, K)
    chain.diagonal(dim1=1, dim2=2).zero_()
    leaving = chain.sum(dim=2) + 1e-14
    system = row[:, None, :] - chain
    system.diagonal(dim1=1, dim2=2).add_(leaving)
    wanted = (-math.log(K) - log_row).clamp_(max=30).expm1_()
    step = torch.linalg.solve_ex(system, wanted).result
    length = step.abs().amax(dim=1, keepdim=True).clamp(min=1e-300)
    return step * (length.log1p() / length)
