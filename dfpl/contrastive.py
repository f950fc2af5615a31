"""The contrastive loss of CLIP between the two modalities, on the global batch.

B samples of this worker, G of all workers, P width of what is compared.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dfpl.distributed import global_rows


def contrastive_loss(
    image: Float[Tensor, "B P"],
    tabular: Float[Tensor, "B P"],
    paired: Bool[Tensor, " B"],
    temperature: float,
) -> Float[Tensor, ""]:
    """An image should be more alike to its own table than to others, and a table to its image.

    S_ij = cos(u_i, v_j) / temperature,  i and j over the n pairs of the global batch
    L = -1/(2n) sum_i [ log softmax_j(S_ij)_i + log softmax_j(S_ji)_i ]

    Samples that lack a modality have no part in it: each is compared with itself alone, and the
    logarithm of its softmax is 0. So is the whole of it where there are fewer than two pairs.
    In float64: early on all vectors look alike, and its gradient is a small difference of sums.
    """
    exact = [x.double().where(paired[:, None], 0.0) for x in (image, tabular)]
    directions = [F.normalize(x, dim=1) for x in exact]
    rows = global_rows(torch.cat([*directions, paired[:, None].double()], dim=1))
    u, v, there = rows.split([image.shape[1], tabular.shape[1], 1], dim=1)
    pair = there.detach().bool()  # (G, 1)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    similarity = (u @ v.T / temperature).masked_fill(~(pair & pair.T | itself), float("-inf"))
    own = torch.arange(len(rows), device=rows.device)
    total = sum(F.cross_entropy(S, own, reduction="sum") for S in (similarity, similarity.T))
    return (total / (2 * pair.sum().clamp(min=1))).to(image.dtype)
