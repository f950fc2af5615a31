"""ShaSpec: shared and specific features, and a missing modality that borrows the other's shared.

Source       Wang et al., "Multi-modal Learning with Missing Modality via Shared-Specific Feature
             Modelling", CVPR 2023 (arXiv 2307.14126), and the mathematics of its public code for
             segmentation, revision 081fe7a (that for classification was never published)
What we kept one shared encoder that sees both modalities, one specific encoder for each; the
             residual fusion with one map for both; the mean of the available shared features, here
             the other one, in place of what is missing; distribution alignment by mean absolute
             difference; domain classification of the specific features; alpha = 0.1, beta = 0.02;
             concatenation, one hidden layer and dropout 0.5 as reported for its classification
Deviations   no network can read pixels and cells alike: what is shared is a head of one transformer
             block over the tokens of each modality's shared branch ("bring both to the same size
             first", its author answers); the branches of the image part after its stem
             both auxiliary terms are masked by what is there, as the paper says and its code does
             not; the one pair of modalities counts once (the code's cycle would count it twice)
             domain classification is averaged in each modality and then over them, so that the rate
             at which one is missing does not tilt it
             no warm-up on complete samples and nothing hidden on top of the scenario; the optimiser
             is that of all methods

B samples, L tokens, C classes, D width; modalities in the order image, tabular.
"""

from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from dfpl.blocks import TransformerBlock
from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.encoders import Tokens
from dfpl.encoders.config import BranchedEncodersConfig
from dfpl.encoders.image import ImageEncoder
from dfpl.encoders.series import seen_by_all, token_mean, valid_tokens
from dfpl.encoders.tabular import TabularEncoder
from dfpl.fields import FloatRange
from dfpl.losses import mean_over, task_loss
from dfpl.method import MODALITIES, STATES, Method
from dfpl.noise import StepNoise

SharedHeadKind = Literal["transformer", "mlp"]
_DROPOUT = 0  # purpose of random numbers


class Config(BranchedEncodersConfig):
    """The weights of ShaSpec's terms (the paper's values), its size and its switches."""

    name: Literal["shaspec"] = "shaspec"
    alpha: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the distribution alignment of the shared features."""
    beta: Annotated[float, Field(ge=0)] = 0.02
    """Weight of the domain classification of the specific features."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the hidden units of the classifier that a training step leaves out."""
    shared_head: SharedHeadKind = "transformer"
    """What reads the shared tokens of both modalities: a transformer block before their mean, or
    two linear maps after it."""


SEARCH_SPACE = {
    "method.alpha": FloatRange(0.01, 1.0, log=True),
    "method.beta": FloatRange(0.005, 0.2, log=True),
    "method.dropout": FloatRange(0.0, 0.7),
}
"""The weights over what re-implementations of ShaSpec for two modalities were tuned in."""


class Features(NamedTuple):
    """What one modality says about each sample."""

    shared: Float[Tensor, "B D"]
    """r: the shared head's mean over the shared tokens."""
    specific: Float[Tensor, "B D"]
    """s: the mean of the specific tokens."""


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]
    image: Features
    tabular: Features
    domains: Float[Tensor, "B 2 2"]
    """For the specific features of each modality, logits of which modality they are of."""


class SharedHead(nn.Module):
    """Reads the shared tokens of either modality with the same weights."""

    def __init__(self, kind: SharedHeadKind, width: int, heads: int) -> None:
        super().__init__()
        if kind == "transformer":
            self.block = TransformerBlock(width, heads)
        else:
            self.block = None
            self.maps = nn.Sequential(
                nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
            )

    def forward(
        self, tokens: Float[Tensor, "B L D"], valid: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B D"]:
        """`valid`: which tokens are read; None: all."""
        if self.block is None:
            return self.maps(token_mean(tokens, valid))
        return token_mean(self.block(tokens, seen_by_all(tokens, valid)), valid)


class ResidualFusion(nn.Module):
    """The fused features of both modalities.

    f^m = r^m + Q [r^m; s^m] where modality m is there, else f^m = r of the other modality
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(2 * width, width, bias=False)

    def forward(
        self, image: Features, tabular: Features, available: Bool[Tensor, "B 2"]
    ) -> Float[Tensor, "B 2 D"]:
        sides = (image, tabular)
        own = torch.stack([r + self.map(torch.cat([r, s], dim=1)) for r, s in sides], dim=1)
        borrowed = torch.stack([tabular.shared, image.shared], dim=1)
        return torch.where(available[..., None], own, borrowed)


class Model(Method):
    """ShaSpec for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        self.config = c = config
        self.task_loss = "bce" if schema.task == "multilabel" else config.task_loss
        D = config.width
        self.image_encoder = ImageEncoder(
            c.image_network, c.image_split, D, c.encode_missing, schema.image_kind
        )
        depth = (c.tabular_shared_depth, c.tabular_branch_depth)
        self.tabular_encoder = TabularEncoder(schema, D, depth, c.tabular_heads, c.encode_missing)
        self.shared_head = SharedHead(c.shared_head, D, c.tabular_heads)
        self.fusion = ResidualFusion(D)
        self.hidden = nn.Linear(2 * D, D)
        self.classifier = nn.Linear(D, schema.num_classes)
        self.domain_classifier = nn.Linear(D, 2)
        self.noise = StepNoise()

    def forward(self, batch: Batch) -> Output:
        image, tabular = self._encode(batch)
        domains = self.domain_classifier(torch.stack([image.specific, tabular.specific], dim=1))
        return Output(self._classify(image, tabular, batch.available), image, tabular, domains)

    def final_layer(self) -> nn.Module:
        return self.classifier

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Encoders once, the rest three times: features do not see the other modality."""
        image, tabular = self._encode(batch)
        logits = {}
        for state, available in STATES.items():
            mask = batch.available & torch.tensor(available, device=batch.available.device)
            logits[state] = self._classify(image, tabular, mask)
        return logits

    def representations(self, batch: Batch) -> dict[str, Float[Tensor, "B _"]]:
        return {
            f"{modality} {branch} features": values
            for modality, features in zip(MODALITIES, self._encode(batch), strict=True)
            for branch, values in features._asdict().items()
        }

    def _encode(self, batch: Batch) -> tuple[Features, Features]:
        has_image, has_table = batch.available[:, IMAGE], batch.available[:, TABULAR]
        image = self.image_encoder(batch.image, has_image)
        tabular = self.tabular_encoder(batch, has_table)
        return self._features(image), self._features(tabular, valid_tokens(batch))

    def _features(self, tokens: Tokens, valid: Bool[Tensor, "B L"] | None = None) -> Features:
        return Features(self.shared_head(tokens.shared, valid), token_mean(tokens.specific, valid))

    def _classify(
        self, image: Features, tabular: Features, available: Bool[Tensor, "B 2"]
    ) -> Float[Tensor, "B C"]:
        hidden = self.hidden(self.fusion(image, tabular, available).flatten(1)).relu()
        return self.classifier(self._dropped(hidden))

    def _dropped(self, hidden: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        share = self.config.dropout
        if not self.training or share == 0:
            return hidden
        kept = self.noise.uniform(len(hidden), hidden.shape[1:], _DROPOUT) >= share
        return (hidden / (1 - share)).where(kept, 0.0)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return {
            "task": task_loss(output.logits, batch.label, self.task_loss),
            "distribution_alignment": alignment_loss(
                output.image.shared, output.tabular.shared, batch.available.all(dim=1)
            ),
            "domain_classification": domain_loss(output.domains, batch.available),
        }

    def weight(self, term: str) -> float:
        """L = L_task + alpha L_dao + beta L_dco."""
        weights = {
            "distribution_alignment": self.config.alpha,
            "domain_classification": self.config.beta,
        }
        return weights.get(term, 1.0)

    def after_step(self) -> None:
        self.noise.advance()


def alignment_loss(
    image: Float[Tensor, "B D"], tabular: Float[Tensor, "B D"], paired: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Shared features of the modalities should agree: L_dao.

    mean over pairs of  1/D sum_d | r^image_d - r^tabular_d |
    """
    return mean_over((image - tabular).abs().mean(dim=1), paired)


def domain_loss(
    domains: Float[Tensor, "B 2 2"], available: Bool[Tensor, "B 2"]
) -> Float[Tensor, ""]:
    """Specific features should tell which modality they are of: L_dco.

    1/2 sum_m  mean over the samples that have m of  -log softmax(domains_m)_m
    """
    terms = [
        mean_over(-domains[:, m].log_softmax(dim=-1)[:, m], available[:, m])
        for m in (IMAGE, TABULAR)
    ]
    return torch.stack(terms).mean()
