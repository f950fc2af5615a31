"""DrFuse: disentangled representations, fused by an attention of its own for each class.

Source       Yao et al., "DrFuse: Learning Disentangled Representation for Clinical Multi-Modal
             Fusion with Missing Modality and Modal Inconsistency", AAAI 2024 (arXiv 2403.06197),
             and the mathematics of its public code, revision e399cc4
What we kept shared and specific branches that part after the image network's stem; one projection
             of the shared vectors for both modalities; the pooling of their logits; one key map
             per class; three auxiliary heads; the Jensen-Shannon, cosine and ranking terms; the
             weights reported for the paper: 0.5 for heads and ranking, 1 for the others
Deviations   the table may be absent as well as the image (the code knows only the latter): each
             slot of the fusion and each term is masked by what it needs
             the code aligns unpaired samples too and divides by the number of pairs, which
             multiplies the term by 1e6 where there is none; here it is the mean over the pairs
             softmax cross-entropy for single-label data, in the heads too; the ranking then
             compares the losses of a sample and looks at the attention of its true class
             nothing is hidden in training on top of the scenario (the code: 30 % of the pairs)
             the encoders are those of all methods: tokens of the image are mapped before they are
             averaged (the same number), columns in place of hours, no dropout
             keys have no bias: it would add the same to all slots, which the softmax cancels

B samples, C classes, D width; N = 3 slots: image, shared, tabular.
"""

from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.encoders import Tokens
from dfpl.encoders.config import BranchedEncodersConfig
from dfpl.encoders.image import ImageEncoder
from dfpl.encoders.series import token_mean, valid_tokens
from dfpl.encoders.tabular import TabularEncoder
from dfpl.fields import FloatRange
from dfpl.losses import mean_over, task_loss, task_losses
from dfpl.method import MODALITIES, STATES, Method, Readout
from dfpl.prototypes import disentanglement_loss, divergence_loss

SLOTS = ("image", "shared", "tabular")
RANKED = ((0, 2), (1, 2), (1, 0))
"""The pairs of slots whose order of attention is compared with that of their losses."""
Pool = Literal["logit", "mean"]


class Config(BranchedEncodersConfig):
    """The weights of DrFuse's terms, its size and its switches."""

    name: Literal["drfuse"] = "drfuse"
    alignment_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the Jensen-Shannon term, a sum over D: an equally strong weight falls with `width`."""
    image_disentanglement_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the cosine between the image's shared and specific vectors."""
    tabular_disentanglement_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the cosine between the table's shared and specific vectors."""
    image_task_weight: Annotated[float, Field(ge=0)] = 0.5
    """Of the auxiliary prediction from the image's specific vector."""
    shared_task_weight: Annotated[float, Field(ge=0)] = 0.5
    """Of the auxiliary prediction from the shared vector."""
    tabular_task_weight: Annotated[float, Field(ge=0)] = 0.5
    """Of the auxiliary prediction from the table's specific vector."""
    ranking_weight: Annotated[float, Field(ge=0)] = 0.5
    """Of the term that gives the slot of lower loss the higher attention."""
    pool: Pool = "logit"
    """How the shared vectors of a pair become one: mean of their sigmoids, or of themselves."""


SEARCH_SPACE = {
    "method.alignment_weight": FloatRange(0.001, 2.0, log=True),
    "method.image_disentanglement_weight": FloatRange(0.01, 2.0, log=True),
    "method.tabular_disentanglement_weight": FloatRange(0.01, 2.0, log=True),
    "method.image_task_weight": FloatRange(0.1, 2.0, log=True),
    "method.shared_task_weight": FloatRange(0.1, 2.0, log=True),
    "method.tabular_task_weight": FloatRange(0.1, 2.0, log=True),
    "method.ranking_weight": FloatRange(0.1, 2.0, log=True),
}
"""All weights; a later benchmark by DrFuse's authors found values from 0.01 to 2.0."""


class Vectors(NamedTuple):
    """What one modality says about each sample."""

    shared: Float[Tensor, "B D"]
    """s: the projected mean of the shared tokens."""
    specific: Float[Tensor, "B D"]
    """h: the mean of the specific tokens."""


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]
    attention: Float[Tensor, "B C 3"]
    """Weight of each slot for each class; exactly 0 where the slot is absent."""
    heads: Float[Tensor, "B C 3"]
    """Logits of the auxiliary heads, each from one slot."""
    image: Vectors
    tabular: Vectors


class ClassWiseAttention(nn.Module):
    """Each class attends to the slots with a key map of its own and reads with one weight vector.

    q = mean over the slots there of W_q x_n,   a_cn = softmax_n(q . K_c x_n / sqrt(D))
    logit_c = w_c . sum_n a_cn v_n + b_c = sum_n a_cn (w_c . v_n) + b_c,   v_n = W_v x_n

    The keys are never made: q . K_c x = (K_c^T q) . x, and there is one query but three slots.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, num_classes * width, bias=False)
        """K_c^T of all classes, one below the other."""
        self.value = nn.Linear(width, width)
        self.classify = nn.Linear(width, num_classes)

    def forward(
        self, slots: Float[Tensor, "B N D"], visible: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C N"]]:
        B, _, D = slots.shape
        queries = self.query(slots).where(visible[..., None], 0.0)
        query = queries.sum(dim=1) / visible.sum(dim=1, keepdim=True)
        asked = self.key(query).view(B, len(self.classify.weight), D) / D**0.5  # (B, C, D)
        scores = (asked @ slots.mT).masked_fill(~visible[:, None], float("-inf"))
        attention = scores.softmax(dim=-1)  # (B, C, N)
        read = self.classify.weight @ self.value(slots).mT  # (B, C, N)
        return (attention * read).sum(dim=-1) + self.classify.bias, attention

    def found_by(
        self,
        attention: Float[Tensor, "B C N"],
        slots: Float[Tensor, "B N D"],
        classes: Int[Tensor, " B"],
    ) -> Float[Tensor, "B D"]:
        """What one class of each sample mixed: sum_n a_cn v_n; the weights sum to 1, so that the
        bias of W_v may be added last."""
        own = attention.take_along_dim(classes[:, None, None], dim=1)  # (B, 1, N)
        return self.value((own @ slots)[:, 0])


class Model(Method):
    """DrFuse for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        self.config = c = config
        self.task_loss = "bce" if schema.task == "multilabel" else config.task_loss
        D, C = config.width, schema.num_classes
        self.image_encoder = ImageEncoder(
            c.image_network, c.image_split, D, c.encode_missing, schema.image_kind
        )
        depth = (c.tabular_shared_depth, c.tabular_branch_depth)
        self.tabular_encoder = TabularEncoder(schema, D, depth, c.tabular_heads, c.encode_missing)
        self.project = nn.Sequential(
            nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, D), nn.ReLU(), nn.Linear(D, D)
        )
        self.heads = nn.ModuleList(nn.Linear(D, C) for _ in SLOTS)
        self.attention = ClassWiseAttention(C, D)

    def forward(self, batch: Batch) -> Output:
        image, tabular = self._encode(batch)
        slots, visible = self._slots(image, tabular, batch.available)
        logits, attention = self.attention(slots, visible)
        said = [head(slots[:, n]) for n, head in enumerate(self.heads)]
        return Output(logits, attention, torch.stack(said, dim=-1), image, tabular)

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Encoders once, fusion three times: features do not see the other modality."""
        image, tabular = self._encode(batch)
        logits = {}
        for state, available in STATES.items():
            mask = batch.available & torch.tensor(available, device=batch.available.device)
            logits[state] = self.attention(*self._slots(image, tabular, mask))[0]
        return logits

    def readout(self, batch: Batch) -> Readout:
        """What the predicted class mixed of the slots."""
        slots, visible = self._slots(*self._encode(batch), batch.available)
        logits, attention = self.attention(slots, visible)
        vectors = self.attention.found_by(attention, slots, logits.argmax(dim=1))
        return Readout(logits, vectors, attention)

    def attended(self) -> tuple[str, ...]:
        return ("image specific", "shared", "tabular specific")

    def representations(self, batch: Batch) -> dict[str, Float[Tensor, "B _"]]:
        return {
            f"{modality} {branch} vectors": values
            for modality, vectors in zip(MODALITIES, self._encode(batch), strict=True)
            for branch, values in vectors._asdict().items()
        }

    def _encode(self, batch: Batch) -> tuple[Vectors, Vectors]:
        has_image, has_table = batch.available[:, IMAGE], batch.available[:, TABULAR]
        image = self.image_encoder(batch.image, has_image)
        tabular = self.tabular_encoder(batch, has_table)
        return self._vectors(image), self._vectors(tabular, valid_tokens(batch))

    def _vectors(self, tokens: Tokens, valid: Bool[Tensor, "B L"] | None = None) -> Vectors:
        shared, specific = (token_mean(branch, valid) for branch in tokens)
        return Vectors(self.project(shared), specific)

    def _slots(
        self, image: Vectors, tabular: Vectors, available: Bool[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "B 3 D"], Bool[Tensor, "B 3"]]:
        """What is fused, and which of it is there: absent slots are 0."""
        has_image, has_table = available[:, IMAGE], available[:, TABULAR]
        one = torch.where(has_image[:, None], image.shared, tabular.shared)
        both = pool_shared(image.shared, tabular.shared, self.config.pool)
        shared = torch.where((has_image & has_table)[:, None], both, one)
        slots = torch.stack([image.specific, shared, tabular.specific], dim=1)
        visible = torch.stack([has_image, has_image | True, has_table], dim=1)
        return slots.where(visible[..., None], 0.0), visible

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The terms of the objective, unweighted."""
        has_image, has_table = batch.available[:, IMAGE], batch.available[:, TABULAR]
        paired = has_image & has_table
        image, tabular = output.image, output.tabular
        per_slot = [task_losses(x, batch.label, self.task_loss) for x in output.heads.unbind(-1)]
        there = (has_image, has_image | True, has_table)
        terms = {
            f"{slot}_task": mean_over(values.mean(dim=1), present)
            for slot, values, present in zip(SLOTS, per_slot, there, strict=True)
        }
        attention = self._attention_of_losses(output, batch)
        return {
            "task": task_loss(output.logits, batch.label, self.task_loss),
            **terms,
            "alignment": divergence_loss(
                image.shared.double(), tabular.shared.double(), paired, "sigmoid"
            ).to(output.logits.dtype),  # early on a small difference of sums of much larger terms
            "image_disentanglement": disentanglement_loss(*image, has_image),
            "tabular_disentanglement": disentanglement_loss(*tabular, has_table),
            "ranking": ranking_loss(attention, torch.stack(per_slot, dim=-1), paired),
        }

    def _attention_of_losses(self, output: Output, batch: Batch) -> Float[Tensor, "B R 3"]:
        """The attention beside each loss of the heads: every class's, or the true one's alone."""
        if self.task_loss == "bce":
            return output.attention
        return output.attention.take_along_dim(batch.label[:, None, None], dim=1)

    def weight(self, term: str) -> float:
        return 1.0 if term == "task" else getattr(self.config, f"{term}_weight")


def pool_shared(
    image: Float[Tensor, "B D"], tabular: Float[Tensor, "B D"], pool: Pool
) -> Float[Tensor, "B D"]:
    """One shared vector of two, element by element.

    "logit": logit(m),  m = (sigma(a) + sigma(b)) / 2,  as  log m - log(1 - m)  with both in log
    form, finite everywhere. "mean": (a + b) / 2.
    """
    if pool == "mean":
        return (image + tabular) / 2
    yes = torch.logaddexp(F.logsigmoid(image), F.logsigmoid(tabular))
    no = torch.logaddexp(F.logsigmoid(-image), F.logsigmoid(-tabular))
    return yes - no


def ranking_loss(
    attention: Float[Tensor, "B R 3"], losses: Float[Tensor, "B R 3"], paired: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Where one slot predicts better than another, it should get the higher attention.

    r_ab = max(0, a_b - a_a) if e_a < e_b, else max(0, a_a - a_b),  for paired samples
    L = 1/3 sum over (a, b) of  the mean of r_ab over the entries where it is above 0

    The losses e only say which is better: no gradient reaches them.
    """
    terms = []
    for a, b in RANKED:
        gap = attention[..., a] - attention[..., b]
        violation = torch.where(losses[..., a] < losses[..., b], -gap, gap)
        counted = (violation > 0) & paired[:, None]
        terms.append(mean_over(violation.flatten(), counted.flatten()))
    return torch.stack(terms).mean()
