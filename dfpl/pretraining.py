"""What TIP's pre-training draws and what it loses: columns, negatives, matching, reconstruction.

A table is here one row of cells: the codes of the categorical columns, then the numbers, as in the
tabular encoder's tokens; NaN is an empty cell. All of it is on the global batch, and the same for
any number of workers.

B samples of this worker, G of all workers; Fc categorical, Fn numeric, N = Fc + Fn columns; K
levels of all categorical columns together; P width of what is contrasted.
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


def choose_columns(uniform: Float[Tensor, "B N"], count: int) -> Bool[Tensor, "B N"]:
    """`count` columns of each sample, any as likely as any other."""
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
    own = torch.cat([cells, has_table[:, None].to(cells.dtype)], dim=1)
    everyone = global_rows(own)
    number = everyone[:, -1].long().cumsum(dim=0)  # of each table, from 1
    drawn = (uniform * number[-1]).floor().long() + 1
    donor = torch.searchsorted(number, drawn).clamp(max=len(number) - 1)
    found = everyone.gather(0, donor)
    replaced = chosen & ~found.isnan() & ~cells.isnan() & (number[-1] > 0)
    return torch.where(replaced, found, cells)


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
    masked: Bool[Tensor, "B N"],
    offsets: Int[Tensor, " Fc"],
) -> tuple[Float[Tensor, ""], Bool[Tensor, ""]]:
    """Tell what the masked cells hold, and whether there was one to tell.

        L = 1/2 ( mean over masked categorical cells of  -log softmax(levels)[own level]
                + mean over masked numeric cells of  (guess - number)^2 )

    The softmax is over the levels of all columns; those of column j begin at `offsets[j]`. Empty
    cells and levels that training never showed have no part in it. Of a kind of cell that nobody
    had masked there is no mean, and L is the other's.
    """
    codes, true = cells[:, : len(offsets)], cells[:, len(offsets) :]
    masked_codes, masked_numbers = masked[:, : len(offsets)], masked[:, len(offsets) :]
    losses, counted = [], []
    if levels.shape[2]:
        known = masked_codes & (codes > UNSEEN)
        target = (codes.where(known, UNSEEN + 1) - UNSEEN - 1).long() + offsets
        target = target.where(known, 0)
        losses.append(F.cross_entropy(levels.mT, target, reduction="none").flatten())
        counted.append(known.flatten())
    if numbers.shape[1]:
        known = masked_numbers & ~true.isnan()
        losses.append((numbers - true).where(known, 0.0).square().flatten())
        counted.append(known.flatten())
    means = [mean_over(*part) for part in zip(losses, counted, strict=True)]
    found = global_sum(torch.stack([mask.any() for mask in counted]).long()) > 0
    return mean_of_found(torch.stack(means), found), found.any()


def mean_of_found(values: Float[Tensor, " T"], found: Bool[Tensor, " T"]) -> Float[Tensor, ""]:
    """Mean of the terms for which there was a sample; 0 if there was none for any."""
    return values.where(found, 0.0).sum() / found.sum().clamp(min=1)
