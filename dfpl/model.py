"""DFPL: disentangled fine-grained prototype learning (Eqs. 1 to 13).

Source       arXiv 2606.05455v1; no code or supplement is published
What we kept every equation; the defaults of section IV
Deviations   softmax cross-entropy instead of Eq. 12 by default for single-label data, as it was
             much better on real data; `task_loss = "bce"` is Eq. 12
             what the paper leaves open is a field of the config

B samples, C classes, K prototypes per branch, D width, R rows of evidence (6 with both scales).
"""

from math import inf
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from dfpl.aggregation import (
    ROWS,
    ClassAwareAggregation,
    Fusion,
    PlainFusion,
    Scale,
    gather_evidence,
    names_of_rows,
)
from dfpl.alignment import (
    ClassPrototypeKind,
    ClassPrototypes,
    class_prototypes,
    match_prototypes,
    semantic_alignment_loss,
)
from dfpl.config import MethodConfig
from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.distributed import global_max
from dfpl.encoders import EncodeMissing, Tokens
from dfpl.encoders.image import ImageEncoder, ImageNetwork, ImageSplit
from dfpl.encoders.series import token_mean, valid_tokens
from dfpl.encoders.tabular import TabularEncoder, check_heads
from dfpl.fields import ConfigError, FloatRange, IntRange
from dfpl.losses import mean_over, one_hot, task_loss
from dfpl.method import MODALITIES, STATES, Method, Readout
from dfpl.prototypes import (
    Branch,
    Divergence,
    PrototypeNorm,
    SharedSpecificPrototypes,
    Side,
    disentanglement_loss,
    divergence_loss,
    diversity_loss,
    mean_pairwise_cosine,
)
from dfpl.transport import MOST_VIOLATION


class Config(MethodConfig):
    """DFPL's hyperparameters (the paper's values), its size, and the switches of its ablations."""

    name: Literal["dfpl"] = "dfpl"
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the coarse shared-specific terms, L_cssm."""
    beta: Annotated[float, Field(ge=0)] = 0.1
    """Weight of diversity and prototype disentanglement, L_div + L_pdis."""
    gamma: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the alignment terms, L_pali + L_cali."""
    delta: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Cosine above which two prototypes of a branch repel each other."""
    num_prototypes: Annotated[int, Field(ge=1, le=64)] = 5
    """K, prototypes per branch."""
    epsilon: Annotated[float, Field(ge=1e-3, le=10)] = 0.1
    """Strength of the entropic regularisation of the transport."""
    omega: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the specific prototypes' transport beside the shared ones'."""

    width: Annotated[int, Field(ge=8)] = 512
    """D, size of every token."""
    image_network: ImageNetwork = "resnet50"
    """Image encoder; `small` is for CPU work on small pictures."""
    image_split: ImageSplit = "layer3"
    """Last stage that the shared and the specific image branch have in common."""
    tabular_shared_depth: Annotated[int, Field(ge=0)] = 2
    """Transformer blocks that the branches of the tabular encoder have in common."""
    tabular_branch_depth: Annotated[int, Field(ge=1)] = 2
    """Transformer blocks of each branch of the tabular encoder."""
    tabular_heads: Annotated[int, Field(ge=1)] = 8
    """Attention heads of the tabular encoder."""

    prototypes: bool = True
    """SSPM (Table II); off leaves the token means alone."""
    diversity: bool = True
    """L_div (Table III)."""
    distribution_alignment: bool = True
    """L_pali, the transport terms (Tables II and IV)."""
    semantic_alignment: bool = True
    """L_cali, the class-prototype term (Tables II and IV)."""
    class_prototypes: ClassPrototypeKind = "gated"
    """Scale of the class prototypes (Table IV)."""
    fusion: Fusion = "cma"
    """CMA, or plain concatenation or addition (Tables II and V)."""
    scale: Scale = "both"
    """Scales that the fusion sees (Table V)."""

    prototype_norm: PrototypeNorm = "none"
    """Normalisation of the prototypes (open in the paper)."""
    jsd: Divergence = "sigmoid"
    """Form of the Jensen-Shannon divergence (open in the paper)."""
    task_loss: Literal["ce", "bce"] = "ce"
    """Softmax cross-entropy, or binary cross-entropy per class as in Eq. 12; multi-label data
    takes the latter in any case."""
    encode_missing: EncodeMissing = "zeros"
    """Encode a zero input for an absent modality as the paper does, or skip it."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "Config":
        check_heads(self.width, self.tabular_heads)
        aligned = self.distribution_alignment or self.semantic_alignment
        if not self.prototypes and (aligned or self.scale != "global"):
            raise ConfigError(
                "method.prototypes = false needs method.distribution_alignment = false, "
                "method.semantic_alignment = false and method.scale = 'global': there are no "
                "prototypes to align or to fuse"
            )
        return self


SEARCH_SPACE = {
    "method.alpha": FloatRange(0.01, 10.0, log=True),
    "method.beta": FloatRange(0.01, 1.0, log=True),
    "method.gamma": FloatRange(0.01, 1.0, log=True),
    "method.delta": FloatRange(0.0, 0.5),
    "method.num_prototypes": IntRange(2, 15),
    "method.epsilon": FloatRange(0.01, 1.0, log=True),
    "method.omega": FloatRange(0.01, 1.0, log=True),
}


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]
    attention: Float[Tensor, "B C R"] | None
    """Weight of each row of evidence for each class (Fig. 5); None without CMA."""
    evidence: Float[Tensor, "B R D"]
    """The representations that were fused."""
    image: Side
    tabular: Side
    gate: Float[Tensor, " twoD"] | None
    """w of Eq. 7."""

    @property
    def paired(self) -> Bool[Tensor, " B"]:
        return self.image.present & self.tabular.present


class Model(Method):
    """DFPL for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        self.config = config
        self.task_loss = "bce" if schema.task == "multilabel" else config.task_loss
        c = config
        self.image_encoder = ImageEncoder(
            c.image_network, c.image_split, c.width, c.encode_missing, schema.image_kind
        )
        depth = (c.tabular_shared_depth, c.tabular_branch_depth)
        self.tabular_encoder = TabularEncoder(
            schema, c.width, depth, c.tabular_heads, c.encode_missing
        )
        if c.prototypes:
            sizes = (c.num_prototypes, c.width, c.prototype_norm)
            self.image_prototypes = SharedSpecificPrototypes(*sizes)
            self.tabular_prototypes = SharedSpecificPrototypes(*sizes)
        gated = c.semantic_alignment and c.class_prototypes == "gated"
        self.gate = nn.Parameter(torch.zeros(2 * c.width)) if gated else None
        if c.fusion == "cma":
            self.aggregation = ClassAwareAggregation(schema.num_classes, c.width)
        else:
            rows = ROWS[c.scale]
            self.aggregation = PlainFusion(c.fusion, rows, schema.num_classes, c.width)

    def forward(self, batch: Batch) -> Output:
        image, tabular = self._encode(batch)
        evidence, visible = gather_evidence(image, tabular, batch.available, self.config.scale)
        logits, attention = self.aggregation(evidence, visible)
        return Output(logits, attention, evidence, image, tabular, self.gate)

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Encoders once, aggregation three times: features do not see the other modality."""
        image, tabular = self._encode(batch)
        logits = {}
        for state, available in STATES.items():
            mask = batch.available & torch.tensor(available, device=batch.available.device)
            evidence = gather_evidence(image, tabular, mask, self.config.scale)
            logits[state] = self.aggregation(*evidence)[0]
        return logits

    def representations(self, batch: Batch) -> dict[str, Float[Tensor, "B _"]]:
        """t and p of each branch: what the losses keep apart and the fusion reads."""
        found = {}
        for modality, side in zip(MODALITIES, self._encode(batch), strict=True):
            for name, branch in (("shared", side.shared), ("specific", side.specific)):
                found[f"{modality} {name} tokens"] = branch.token_mean
                if self.config.prototypes:
                    found[f"{modality} {name} prototypes"] = branch.prototype_mean
        return found

    def final_layer(self) -> nn.Module | None:
        """Without CMA, what is fused is one vector."""
        return self.aggregation.classify if isinstance(self.aggregation, PlainFusion) else None

    def readout(self, batch: Batch) -> Readout | None:
        """With CMA, what the query of the predicted class found."""
        if isinstance(self.aggregation, PlainFusion):
            return super().readout(batch)
        found = self(batch)
        of_class = (found.attention, found.evidence, found.logits.argmax(dim=1))
        vectors = self.aggregation.found_by(*of_class)
        return Readout(found.logits, vectors, found.attention)

    def attended(self) -> tuple[str, ...]:
        return names_of_rows(self.config.scale) if self.config.fusion == "cma" else ()

    def _encode(self, batch: Batch) -> tuple[Side, Side]:
        has_image, has_table = batch.available[:, IMAGE], batch.available[:, TABULAR]
        image = self.image_encoder(batch.image, has_image)
        tabular = self.tabular_encoder(batch, has_table)
        extract = (
            (self.image_prototypes, self.tabular_prototypes)
            if self.config.prototypes
            else (_no_prototypes, _no_prototypes)
        )
        return (
            _side(image, extract[0], has_image),
            _side(tabular, extract[1], has_table, valid_tokens(batch)),
        )

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The terms of the objective (Eq. 13), unweighted, and what is only watched."""
        sides = (output.image, output.tabular)
        terms = {
            "task": task_loss(output.logits, batch.label, self.task_loss),
            "token_disentanglement": _total(
                disentanglement_loss(side.shared.token_mean, side.specific.token_mean, side.present)
                for side in sides
            ),
            "token_alignment": divergence_loss(
                output.image.shared.token_mean,
                output.tabular.shared.token_mean,
                output.paired,
                self.config.jsd,
            ),
        }
        if self.config.prototypes:
            terms |= self._prototype_terms(sides)
        if self.config.distribution_alignment:
            terms |= self._distribution_terms(output)
        if self.config.semantic_alignment:
            terms["semantic_alignment"] = self._semantic_term(output, batch)
        return terms

    def _prototype_terms(self, sides: tuple[Side, Side]) -> dict[str, Float[Tensor, ""]]:
        branches: list[Any] = [
            (branch.prototypes, side.present)
            for side in sides
            for branch in (side.shared, side.specific)
        ]
        terms = {
            "prototype_disentanglement": _total(
                disentanglement_loss(
                    side.shared.prototype_mean, side.specific.prototype_mean, side.present
                )
                for side in sides
            ),
            "prototype_cosine": _total(mean_pairwise_cosine(*branch) for branch in branches) / 4,
        }
        if self.config.diversity:
            terms["diversity"] = _total(
                diversity_loss(prototypes, present, self.config.delta)
                for prototypes, present in branches
            )
        return terms

    def _distribution_terms(self, output: Output) -> dict[str, Float[Tensor, ""]]:
        pairs: list[Any] = [
            (output.image.shared.prototypes, output.tabular.shared.prototypes),
            (output.image.specific.prototypes, output.tabular.specific.prototypes),
        ]
        shared, specific = match_prototypes(pairs, output.paired, self.config.epsilon)
        values = shared.value + self.config.omega * specific.value
        return {
            "distribution_alignment": mean_over(values, output.paired),
            "transport_violation": global_max(torch.cat([shared.violation, specific.violation])),
        }

    def _semantic_term(self, output: Output, batch: Batch) -> Float[Tensor, ""]:
        truth = one_hot(batch.label, output.logits)

        def of(side: Side) -> tuple[Float[Tensor, "B D"], ClassPrototypes]:
            mean = side.shared.prototype_mean
            positive = truth * side.present[:, None]
            found = class_prototypes(
                side.shared.token_mean, mean, positive, output.gate, self.config.class_prototypes
            )
            return mean, found

        return semantic_alignment_loss(of(output.image), of(output.tabular), output.paired)

    def weight(self, term: str) -> float:
        """Eq. 13: L_cls + alpha L_cssm + beta (L_div + L_pdis) + gamma (L_pali + L_cali)."""
        match term:
            case "task":
                return 1.0
            case "token_disentanglement" | "token_alignment":
                return self.config.alpha
            case "diversity" | "prototype_disentanglement":
                return self.config.beta
            case "distribution_alignment" | "semantic_alignment":
                return self.config.gamma
        return 0.0

    def limit(self, term: str) -> float:
        return MOST_VIOLATION if term == "transport_violation" else inf


def _side(
    tokens: Tokens,
    extract: Any,
    present: Bool[Tensor, " B"],
    valid: Bool[Tensor, "B L"] | None = None,
) -> Side:
    shared, specific = extract(tokens, valid)
    return Side(
        Branch(token_mean(tokens.shared, valid), shared),
        Branch(token_mean(tokens.specific, valid), specific),
        present,
    )


def _no_prototypes(tokens: Tokens, valid: Tensor | None) -> tuple[None, None]:
    return None, None


def _total(terms: Any) -> Float[Tensor, ""]:
    return torch.stack(list(terms)).sum()
