"""PFA: prototype-guided fine-grained alignment (Eqs. 4 to 8).

B samples, K prototypes, D width, C classes. All sums run over the global batch.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dfpl.distributed import global_sum
from dfpl.losses import mean_over
from dfpl.transport import Transport, entropic_transport

ClassPrototypeKind = Literal["gated", "global", "prototype"]


def transport_cost(
    image: Float[Tensor, "B K D"], tabular: Float[Tensor, "B K D"]
) -> Float[Tensor, "B K K"]:
    """C_ij = || P_i^image - P_j^tabular ||^2 (Eq. 4)."""
    squares = image.square().sum(-1)[:, :, None] + tabular.square().sum(-1)[:, None, :]
    return (squares - 2 * image @ tabular.mT).clamp(min=0)


def match_prototypes(
    pairs: list[tuple[Float[Tensor, "B K D"], Float[Tensor, "B K D"]]],
    paired: Bool[Tensor, " B"],
    epsilon: float,
) -> list[Transport]:
    """Entropic transport between the prototypes of the modalities (Eq. 5), one per pair of
    branches, solved in one call. Samples that lack a modality have cost 0."""
    costs = [transport_cost(*pair).where(paired[:, None, None], 0.0) for pair in pairs]
    solved = entropic_transport(torch.cat(costs), epsilon)
    return [Transport(*parts) for parts in zip(*(x.chunk(len(pairs)) for x in solved), strict=True)]


class ClassPrototypes(NamedTuple):
    """One vector per class, from the samples of the batch that have the modality."""

    vector: Float[Tensor, "C D"]
    found: Bool[Tensor, " C"]
    """Whether the global batch has a positive sample of the class with the modality."""


def class_prototypes(
    token_mean: Float[Tensor, "B D"],
    prototype_mean: Float[Tensor, "B D"],
    positive: Float[Tensor, "B C"],
    gate: Float[Tensor, " twoD"] | None,
    kind: ClassPrototypeKind,
) -> ClassPrototypes:
    """Class prototypes of one modality at both scales (Eqs. 6 and 7).

    nu_c = lam nu_glo,c + (1 - lam) nu_proto,c ,  lam = sigmoid( w . [nu_glo,c ; nu_proto,c] )

    `positive[i, c]` is 1 where sample i is of class c and has the modality. "global" and
    "prototype" keep one of the two scales (Table IV).
    """
    known = torch.cat([token_mean, prototype_mean, torch.ones_like(token_mean[:, :1])], dim=1)
    sums = global_sum(positive.T @ known)  # (C, 2D + 1)
    count = sums[:, -1].detach()
    means = sums[:, :-1] / count.clamp(min=1)[:, None]
    at_tokens, at_prototypes = means.chunk(2, dim=1)
    if kind == "global":
        return ClassPrototypes(at_tokens, count > 0)
    if kind == "prototype":
        return ClassPrototypes(at_prototypes, count > 0)
    assert gate is not None
    share = (means @ gate).sigmoid()[:, None]
    return ClassPrototypes(share * at_tokens + (1 - share) * at_prototypes, count > 0)


def semantic_alignment_loss(
    image: tuple[Float[Tensor, "B D"], ClassPrototypes],
    tabular: tuple[Float[Tensor, "B D"], ClassPrototypes],
    paired: Bool[Tensor, " B"],
) -> Float[Tensor, ""]:
    """Both modalities should see a sample at the same similarity to each class (Eq. 8).

    mean over paired samples i and classes c found in both modalities of
    ( cos(p_i^image, nu_c^image) - cos(p_i^tabular, nu_c^tabular) )^2

    No such sample or class: 0.
    """
    found = image[1].found & tabular[1].found
    seen = [
        F.normalize(mean, dim=-1) @ F.normalize(prototypes.vector, dim=-1).T
        for mean, prototypes in (image, tabular)
    ]
    gap = (seen[0] - seen[1]).square().where(found, 0.0)  # (B, C)
    return mean_over(gap.sum(dim=1) / found.sum().clamp(min=1), paired)
