"""SSPM: shared-specific prototype modelling (Eqs. 1 to 3).

B samples, L tokens, K prototypes per branch, D width.
"""

from math import log
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dfpl.blocks import CrossAttention, FeedForward
from dfpl.encoders import Tokens
from dfpl.losses import mean_over

PrototypeNorm = Literal["none", "layernorm", "l2"]
Divergence = Literal["sigmoid", "softmax"]


class Branch(NamedTuple):
    """What one branch of one modality says about each sample, at two scales."""

    token_mean: Float[Tensor, "B D"]
    """t: the mean of the tokens."""
    prototypes: Float[Tensor, "B K D"] | None
    """P; None where SSPM is off."""

    @property
    def prototype_mean(self) -> Float[Tensor, "B D"]:
        """p: the mean of the prototypes."""
        assert self.prototypes is not None
        return self.prototypes.mean(dim=1)


class Side(NamedTuple):
    """The two branches of one modality, and which samples have it."""

    shared: Branch
    specific: Branch
    present: Bool[Tensor, " B"]


class TokenPrototypeExtractor(nn.Module):
    """TPE: K learned queries attend to the tokens of one branch (Eq. 2).

    F' = softmax(Q K^T / sqrt(D)) V + F ;  P = FFN(F') + F'
    """

    def __init__(self, num_prototypes: int, width: int, norm: PrototypeNorm) -> None:
        super().__init__()
        self.norm: PrototypeNorm = norm
        self.queries = nn.Parameter(torch.randn(num_prototypes, width))
        self.attention = CrossAttention(width)
        self.feed_forward = FeedForward(width)

    def forward(
        self, tokens: Float[Tensor, "B L D"], valid: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B K D"]:
        """`valid`: which tokens are attended to; None: all."""
        mixed = self.attention(self.queries, tokens, valid) + self.queries
        prototypes = self.feed_forward(mixed) + mixed
        match self.norm:
            case "layernorm":
                return F.layer_norm(prototypes, prototypes.shape[-1:])
            case "l2":
                return F.normalize(prototypes, dim=-1)
            case _:
                return prototypes


class SharedSpecificPrototypes(nn.Module):
    """The prototypes of both branches of one modality; the branches share no parameter."""

    def __init__(self, num_prototypes: int, width: int, norm: PrototypeNorm) -> None:
        super().__init__()
        self.shared = TokenPrototypeExtractor(num_prototypes, width, norm)
        self.specific = TokenPrototypeExtractor(num_prototypes, width, norm)

    def forward(
        self, tokens: Tokens, valid: Bool[Tensor, "B L"] | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.shared(tokens.shared, valid), self.specific(tokens.specific, valid)


def disentanglement_loss(
    shared: Float[Tensor, "B D"], specific: Float[Tensor, "B D"], present: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Keep the shared and the specific vector of one modality apart (Eq. 1, first item).

    mean over present samples of | cos(shared, specific) |
    """
    return mean_over(F.cosine_similarity(shared, specific).abs(), present)


def divergence_loss(
    image: Float[Tensor, "B D"],
    tabular: Float[Tensor, "B D"],
    paired: Bool[Tensor, " B"],
    kind: Divergence,
) -> Float[Tensor, ""]:
    """Jensen-Shannon divergence of the shared vectors of the modalities (Eq. 1, second item).

    1/2 sum_d [ u log(u/m) + w log(w/m) ],  m = (u + w) / 2

    "sigmoid": u, w are element-wise sigmoids, as DrFuse has it (not a distribution over d).
    "softmax": u, w are distributions over d; at most ln 2. Both in log form, finite everywhere.
    """
    if kind == "sigmoid":
        log_u, log_w = F.logsigmoid(image), F.logsigmoid(tabular)
    else:
        log_u, log_w = image.log_softmax(dim=-1), tabular.log_softmax(dim=-1)
    log_m = torch.logaddexp(log_u, log_w) - log(2)
    per_element = log_u.exp() * (log_u - log_m) + log_w.exp() * (log_w - log_m)
    return mean_over(per_element.sum(dim=-1) / 2, paired)


def diversity_loss(
    prototypes: Float[Tensor, "B K D"], present: Bool[Tensor, " B"], margin: float
) -> Float[Tensor, ""]:
    """Keep the K prototypes of one branch apart (Eq. 3, the term of one branch).

    mean over present samples of  1 / (K (K - 1))  sum_{i != j}  max(0, cos(P_i, P_j) - delta)

    One prototype has nothing to be apart from: K = 1 gives 0.
    """
    K = prototypes.shape[1]
    excess = (_cosines(prototypes) - margin).clamp(min=0)  # (B, K, K)
    per_sample = excess.sum(dim=(1, 2)) - excess.diagonal(dim1=1, dim2=2).sum(dim=1)
    return mean_over(per_sample / max(K * (K - 1), 1), present)


def mean_pairwise_cosine(
    prototypes: Float[Tensor, "B K D"], present: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """How alike the K prototypes of one branch are: 1 means that all are the same vector."""
    K = prototypes.shape[1]
    cosines = _cosines(prototypes.detach())
    per_sample = cosines.sum(dim=(1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(dim=1)
    return mean_over(per_sample / max(K * (K - 1), 1), present)


def _cosines(prototypes: Float[Tensor, "B K D"]) -> Float[Tensor, "B K K"]:
    directions = F.normalize(prototypes, dim=-1)
    return directions @ directions.mT
