"""What TIP's pre-training draws and what it loses: columns, negatives, matching, reconstruction.

A table is here one row of cells: the codes of the categorical columns, then the numbers, as in the
tabular encoder's tokens; NaN is an empty cell. Each step of a time series is one more column. All
of it is on the global batch, and the same for any number of workers.

B samples of this worker, G of all workers; Fc categorical, Fn numeric, N = Fc + Fn columns; K
levels of all categorical columns together; T steps of Fs channels; M = N + T places; P width of
what is contrasted.
"""

from math import inf, nan

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfpl.data.packed import EMPTY, UNSEEN
from dfpl.distributed import global_rows, global_sum, rank, world_size
from dfpl.losses import mean_over

LEAST_CHANCE = 1e-4
"""Added to every softmax from which a negative is drawn."""


def cells_of(numeric: Float[Tensor, "B Fn"], category: Int[Tensor, "B Fc"]) -> Float[Tensor, "B N"]:
    """Codes and numbers side by side."""
    codes = category.to(numeric.dtype).masked_fill(category == EMPTY, nan)
    return torch.cat([codes, numeric], dim=1)


def table_of(
    cells: Float[Tensor, "B N"], num_categories: int
) -> tuple[Float[Tensor, "B Fn"], Int[Tensor, "B Fc"]]:
    """The numeric and the categorical columns again."""
    codes, numeric = cells[:, :num_categories], cells[:, num_categories:]
    return numeric, codes.nan_to_num(EMPTY).long()


def choose_columns(uniform: Float[Tensor, "B M"], count: int) -> Bool[Tensor, "B M"]:
    """`count` places of each sample, any as likely as any other."""
    places = uniform.argsort(dim=1, stable=True).argsort(dim=1)
    return places < count


@torch.no_grad()
def corrupt(
    cells: Float[Tensor, "B N"],
    has_table: Bool[Tensor, " B"],
    chosen: Bool[Tensor, "B N"],
    uniform: Float[Tensor, "B N"],
) -> Float[Tensor, "B N"]:
    """Replace each chosen cell by that of the same column in some table of the global batch, drawn
    anew for each cell. Empty cells stay empty, and none becomes empty."""
    everyone, donor, found_any = _draw_tables(cells, has_table, uniform)
    found = everyone.gather(0, donor)
    replaced = chosen & ~found.isnan() & ~cells.isnan() & found_any
    return torch.where(replaced, found, cells)


@torch.no_grad()
def corrupt_steps(
    series: Float[Tensor, "B T Fs"],
    filled: Bool[Tensor, "B T"],
    has_table: Bool[Tensor, " B"],
    chosen: Bool[Tensor, "B T"],
    uniform: Float[Tensor, "B T"],
) -> Float[Tensor, "B T Fs"]:
    """The same for the steps of a time series, each as a whole. Those that are not `filled`, empty
    ones and padding, stay as they are and replace none."""
    T, Fs = series.shape[1:]
    own = series.where(filled[..., None], 0.0).flatten(1)
    own = torch.cat([own, filled.to(series.dtype)], dim=1)
    everyone, donor, found_any = _draw_tables(own, has_table, uniform)
    steps, there = everyone.split([T * Fs, T], dim=1)
    found = steps.unflatten(1, (T, Fs))[donor, torch.arange(T, device=donor.device)]  # (B, T, Fs)
    replaced = chosen & filled & there.gather(0, donor).bool() & found_any
    return torch.where(replaced[..., None], found, series)


def _draw_tables(
    values: Float[Tensor, "B V"], has_table: Bool[Tensor, " B"], uniform: Float[Tensor, "B M"]
) -> tuple[Float[Tensor, "G V"], Int[Tensor, "B M"], Bool[Tensor, ""]]:
    """The values of the global batch, for each place a row of it that has a table, and whether
    there is one."""
    everyone = global_rows(torch.cat([values, has_table[:, None].to(values.dtype)], dim=1))
    number = everyone[:, -1].long().cumsum(dim=0)  # of each table, from 1
    drawn = (uniform * number[-1]).floor().long() + 1
    donor = torch.searchsorted(number, drawn).clamp(max=len(number) - 1)
    return everyone[:, :-1], donor, number[-1] > 0


@torch.no_grad()
def draw_negatives(
    image: Float[Tensor, "B P"],
    tabular: Float[Tensor, "B P"],
    paired: Bool[Tensor, " B"],
    uniform: Float[Tensor, "B 2"],
    temperature: float,
) -> Int[Tensor, "B 2"]:
    """For each image the table of another sample, and for each table another's image, as rows of
    the global batch. The more alike, the likelier:

        p(j | i)  ~  softmax_j( cos(u_i, v_j) / temperature ) + 1e-4   for j != i, both paired

    Of no meaning for a sample that lacks a modality, or where there is no other pair.
    """
    B = len(paired)
    place = rank() + world_size() * torch.arange(B, device=paired.device)
    u, v = (F.normalize(x.where(paired[:, None], 0.0).double(), dim=1) for x in (image, tabular))
    rows = global_rows(torch.cat([u, v, paired[:, None], place[:, None]], dim=1))
    all_u, all_v, pair, places = rows.split([u.shape[1], v.shape[1], 1, 1], dim=1)
    itself = place[:, None] == places.T  # (B, G)
    other = pair.T.bool() & ~itself
    drawn = []
    for similarity, number in ((u @ all_v.T, uniform[:, 0]), (v @ all_u.T, uniform[:, 1])):
        chance = (similarity / temperature).masked_fill(~(other | itself), -inf).softmax(dim=1)
        up_to = (chance + LEAST_CHANCE).where(other, 0.0).cumsum(dim=1)
        reached = number[:, None].double() * up_to[:, -1:]
        drawn.append(torch.searchsorted(up_to, reached, right=True).clamp(max=len(rows) - 1))
    return torch.cat(drawn, dim=1)


def matching_loss(logits: Float[Tensor, "B 3 2"], paired: Bool[Tensor, " B"]) -> Float[Tensor, ""]:
    """Tell a pair from two that are mixed: the mean over pairs of

    ( CE(own image and table; 1) + CE(own table, other image; 0)
      + CE(own image, other table; 0) ) / 3
    """
    label = torch.tensor([1, 0, 0], device=logits.device).expand(len(logits), 3)
    losses = F.cross_entropy(logits.mT, label, reduction="none")  # (B, 3)
    return mean_over(losses.mean(dim=1), paired)


def reconstruction_loss(
    levels: Float[Tensor, "B Fc K"],
    numbers: Float[Tensor, "B Fn"],
    cells: Float[Tensor, "B N"],
    masked: Bool[Tensor, "B M"],
    offsets: Int[Tensor, " Fc"],
    steps: tuple[Float[Tensor, "B T Fs"], Float[Tensor, "B T Fs"]] | None = None,
) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
    """Tell what the masked places hold, and whether there was one to tell.

        L = 1/3 ( mean over masked categorical cells of  -log softmax(levels)[own level]
                + mean over masked numeric cells of  (guess - number)^2
                + mean over masked steps of  1/Fs sum_f (guess_f - step_f)^2 )

    The softmax is over the levels of all columns; those of column j begin at `offsets[j]`. Empty
    cells and levels that training never showed have no part in it. Of a kind of place that nobody
    had masked there is no mean, and L is the mean of the others. `steps`: the guessed ones and the
    true ones; None: there are none.
    """
    N, Fc = cells.shape[1], len(offsets)
    parts = []
    if levels.shape[2]:
        parts.append(_level_losses(levels, cells[:, :Fc], masked[:, :Fc], offsets))
    if numbers.shape[1]:
        true = cells[:, Fc:, None]
        parts.append(_number_losses(numbers[..., None], true, masked[:, Fc:N]))
    if steps:
        parts.append(_number_losses(*steps, masked[:, N:]))
    means = [mean_over(*part) for part in parts]
    found = global_sum(torch.stack([counted.any() for _, counted in parts]).long()) > 0
    return mean_of_found(torch.stack(means), found), found.any()


def _level_losses(
    levels: Float[Tensor, "B Fc K"],
    codes: Float[Tensor, "B Fc"],
    masked: Bool[Tensor, "B Fc"],
    offsets: Int[Tensor, " Fc"],
) -> tuple[Float[Tensor, " R"], Bool[Tensor, " R"]]:
    """The loss of each cell, and whether it counts."""
    known = masked & (codes > UNSEEN)
    target = (codes.where(known, UNSEEN + 1) - UNSEEN - 1).long() + offsets
    losses = F.cross_entropy(levels.mT, target.where(known, 0), reduction="none")
    return losses.flatten(), known.flatten()


def _number_losses(
    guess: Float[Tensor, "B M E"], true: Float[Tensor, "B M E"], masked: Bool[Tensor, "B M"]
) -> tuple[Float[Tensor, " R"], Bool[Tensor, " R"]]:
    """The loss of each place that holds E numbers, and whether it counts."""
    known = masked & ~true.isnan().any(dim=2)
    losses = (guess - true).where(known[..., None], 0.0).square().mean(dim=2)
    return losses.flatten(), known.flatten()


def mean_of_found(values: Float[Tensor, " T"], found: Bool[Tensor, " T"]) -> Float[Tensor, ""]:
    """Mean of the terms for which there was a sample; 0 if there was none for any."""
    return values.where(found, 0.0).sum() / found.sum().clamp(min=1)
