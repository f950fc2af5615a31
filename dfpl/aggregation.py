"""CMA: class-aware multi-scale aggregation over what is there (Eqs. 9 to 11).

Evidence H (B, 6, D), rows in this order: t_specific^image, p_specific^image, t_shared, p_shared,
t_specific^tabular, p_specific^tabular. With one scale, its three rows.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfpl.blocks import CrossAttention
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.prototypes import Branch, Side

Scale = Literal["both", "global", "prototype"]
Fusion = Literal["cma", "concat", "add"]
ROWS = {"both": 6, "global": 3, "prototype": 3}
NAMES = {"both": ("global", "prototypes"), "global": ("global",), "prototype": ("prototypes",)}
"""Of the scales, in order."""


def gather_evidence(
    image: Side, tabular: Side, available: Bool[Tensor, "B 2"], scale: Scale
) -> tuple[Float[Tensor, "B R D"], Bool[Tensor, "B R"]]:
    """Stack what is known of each sample, and which rows of it are there.

    The shared row is the mean over the available modalities (Eq. 9); absent rows are 0.
    """
    has_image, has_table = available[:, IMAGE], available[:, TABULAR]
    always = has_image | True
    rows, visible = [], []
    for present, branches in (
        (has_image, [image.specific]),
        (always, [image.shared, tabular.shared]),
        (has_table, [tabular.specific]),
    ):
        for vectors in zip(*(_scales(branch, scale) for branch in branches), strict=True):
            shared = len(vectors) == 2
            row = _mean_of_available(vectors, available) if shared else vectors[0]
            rows.append(row.where(present[:, None], 0.0))
            visible.append(present)
    return torch.stack(rows, dim=1), torch.stack(visible, dim=1)


def names_of_rows(scale: Scale) -> tuple[str, ...]:
    """What each row of the evidence is, in order."""
    branches = ("image specific", "shared", "tabular specific")
    return tuple(f"{branch} {name}" for branch in branches for name in NAMES[scale])


def _scales(branch: Branch, scale: Scale) -> list[Float[Tensor, "B D"]]:
    match scale:
        case "global":
            return [branch.token_mean]
        case "prototype":
            return [branch.prototype_mean]
        case _:
            return [branch.token_mean, branch.prototype_mean]


def _mean_of_available(
    vectors: tuple[Float[Tensor, "B D"], ...], available: Bool[Tensor, "B 2"]
) -> Float[Tensor, "B D"]:
    kept = torch.stack(vectors, dim=1).where(available[..., None], 0.0)
    return kept.sum(dim=1) / available.sum(dim=1, keepdim=True).clamp(min=1)


class ClassAwareAggregation(nn.Module):
    """One learned query per class looks at the evidence; one weight vector and bias per class
    reads what its query found (Eqs. 10 and 11, group-wise linear as in Query2Label).

    logit_c = w_c . W_v sum_r a_cr H_r + b_c = sum_r a_cr (W_v^T w_c) . H_r + b_c

    In the second form nothing of size (B, C, D) is ever made.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_classes, width))
        self.attention = CrossAttention(width)
        self.weight = nn.Parameter(torch.randn(num_classes, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(
        self, evidence: Float[Tensor, "B R D"], visible: Bool[Tensor, "B R"]
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C R"]]:
        attention = self.attention.weights(self.queries, evidence, visible)  # (B, C, R)
        read = self.weight @ self.attention.value.weight  # (C, D)
        return (attention * (read @ evidence.mT)).sum(dim=-1) + self.bias, attention

    def found_by(
        self,
        attention: Float[Tensor, "B C R"],
        evidence: Float[Tensor, "B R D"],
        classes: Int[Tensor, " B"],
    ) -> Float[Tensor, "B D"]:
        """What the query of one class of each sample found: the row z_c of Z in Eq. 11.

        z_c = W_v sum_r a_cr H_r,   logit_c = w_c . z_c + b_c
        """
        own = attention.take_along_dim(classes[:, None, None], dim=1)  # (B, 1, R)
        return self.attention.value((own @ evidence)[:, 0])


class PlainFusion(nn.Module):
    """Concatenation (zeros where absent) or addition of the evidence, then one linear map
    (Table V)."""

    def __init__(self, fusion: Fusion, rows: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.fusion: Fusion = fusion
        self.classify = nn.Linear(width * (rows if fusion == "concat" else 1), num_classes)

    def forward(
        self, evidence: Float[Tensor, "B R D"], visible: Bool[Tensor, "B R"]
    ) -> tuple[Float[Tensor, "B C"], None]:
        fused = evidence.flatten(1) if self.fusion == "concat" else evidence.sum(dim=1)
        return self.classify(fused), None
