"""TIP: the table's tokens attend to the image's; three pre-training losses, where time is given.

Source       Du et al., "TIP: Tabular-Image Pre-training for Multimodal Classification with
             Incomplete Data", ECCV 2024, and the mathematics of its public code, revision 9258cc2
What we kept layers of self-attention, attention to the image and a feed-forward part, over CLS and
             all columns; self-attention sees empty cells too; a linear classifier of CLS, trained
             with all the rest; no term but the task's
             pre-training: contrastive loss (temperature 0.1, 128 dimensions) and matching, both
             with corrupted tables, the latter against negatives drawn by likeness, as a mean over
             pairs and twice as many mixed ones; reconstruction of masked cells, whose softmax is
             over the levels of all columns; the mean of the three. 30 % of a table's columns are
             corrupted, 50 % masked. The whole network goes on to the second stage
Deviations   TIP knows of missing cells alone. `variant` says what a missing modality is: "zero", a
             zero image and a zero table, as the comparison in DFPL has it, with nothing to tell
             them from real ones: numbers 0, the mean, and categories whose embedding is the zero
             vector, not the first level of each; "native", a table of empty cells, as TIP has
             tokens for, and no attention to the image that is not there, which is not encoded
             pre-training has a share of the epochs that all methods get, none by default; the code
             has 500 epochs and 500 more. It reads what the scenario leaves: pairs, for contrast and
             matching, and tables, for reconstruction. A loss without a sample is left out of the
             mean: in the code it is 0 / 0. Empty cells and unknown levels are not reconstructed
             a corrupted cell comes from another table of the batch, drawn uniformly, for the same
             distribution; no corruption in the second stage
             one optimiser and schedule for both stages, of all methods: no epoch at rate 0
             nothing is frozen but what a stage has no use for; batch statistics go on to learn
             the image's vector for contrast is the mean of cells mapped to D, as all methods have
             it (the code: of 2048 channels)
             a step of a time series is one more column: corrupted, masked and reconstructed as a
             whole, the last by one map to its channels; padding has no part in anything

B samples, C classes, L = 1 + M tokens of a table with M places, N columns and T steps of Fs
channels; I tokens of an image, D width.
"""

from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from dfpl.blocks import TransformerBlock
from dfpl.config import MethodConfig
from dfpl.contrastive import contrastive_loss
from dfpl.data.batch import Batch
from dfpl.data.packed import UNSEEN, Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.distributed import global_rows, global_sum
from dfpl.encoders.image import ImageNetwork, PlainImageEncoder
from dfpl.encoders.series import filled_steps, seen_by_all, valid_tokens
from dfpl.encoders.tabular import PlainTabularEncoder, check_heads, initialise
from dfpl.fields import FloatRange, IntRange
from dfpl.losses import task_loss
from dfpl.method import STATES, Method
from dfpl.noise import StepNoise
from dfpl.pretraining import (
    cells_of,
    choose_columns,
    corrupt,
    corrupt_steps,
    draw_negatives,
    matching_loss,
    mean_of_found,
    reconstruction_loss,
    table_of,
)

CONTRASTED = 128
"""P, width of the vectors that the contrastive loss compares."""
TEMPERATURE = 0.1
"""What the cosines of the contrastive loss are divided by."""
PARTS = ("contrastive", "matching", "reconstruction")
_CORRUPTED, _DONOR, _NEGATIVE, _MASKED = range(4)  # purposes of random numbers


class Config(MethodConfig):
    """What a missing modality is to TIP, how long it is pre-trained, and its size."""

    name: Literal["tip"] = "tip"
    variant: Literal["zero", "native"] = "zero"
    """A missing modality is a zero image or table, not told from a real one; or a table of empty
    cells, and an image that nothing attends to."""
    pretraining: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the epochs before the classifier is trained."""
    fusion_depth: Annotated[int, Field(ge=1)] = 4
    """Layers in which the table's tokens attend to each other and to the image's."""

    width: Annotated[int, Field(ge=8)] = 512
    """D, size of every token."""
    image_network: ImageNetwork = "resnet50"
    """Image encoder; `small` is for CPU work on small pictures."""
    tabular_depth: Annotated[int, Field(ge=1)] = 4
    """Transformer blocks of the tabular encoder."""
    tabular_heads: Annotated[int, Field(ge=1)] = 8
    """Attention heads of the tabular encoder and of the layers after it."""
    task_loss: Literal["ce", "bce"] = "ce"
    """Softmax cross-entropy, or binary cross-entropy per class; multi-label data takes the latter
    in any case."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Config":
        check_heads(self.width, self.tabular_heads)
        return self


SEARCH_SPACE = {
    "optim.learning_rate": FloatRange(3e-5, 3e-3, log=True),
    "method.pretraining": FloatRange(0.0, 0.5),
    "method.fusion_depth": IntRange(1, 6),
}


class Pretraining(NamedTuple):
    """What the losses of pre-training read besides the batch."""

    image: Float[Tensor, "B P"]
    tabular: Float[Tensor, "B P"]
    """Of the corrupted table."""
    matching: Float[Tensor, "B 3 2"]
    """Two logits each for its own image and table, another image, another table."""
    levels: Float[Tensor, "B Fc K"]
    """Logits of all levels for each categorical column."""
    numbers: Float[Tensor, "B Fn"]
    steps: Float[Tensor, "B T Fs"]
    masked: Bool[Tensor, "B M"]
    """Which cells and steps were hidden."""


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]
    pretraining: Pretraining | None
    """None outside of it."""


class Model(Method):
    """TIP for one schema."""

    absent: Tensor

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        c = self.config = config
        self.native = c.variant == "native"
        self.task_loss = "bce" if schema.task == "multilabel" else c.task_loss
        missing = "skip" if self.native else "zeros"
        self.image_encoder = PlainImageEncoder(c.image_network, c.width, missing, schema.image_kind)
        self.tabular_encoder = PlainTabularEncoder(
            schema, c.width, c.tabular_depth, c.tabular_heads, "zeros"
        )
        self.fusion = MultimodalEncoder(c.width, c.tabular_heads, c.fusion_depth)
        self.classifier = nn.Linear(c.width, schema.num_classes)
        self.heads = PretrainingHeads(schema, c.width) if c.pretraining else None
        self.register_buffer("absent", absent_cells(schema, self.native), persistent=False)
        self.enter(len(self.stages()) - 1)

    def stages(self) -> tuple[float, ...]:
        return (0.0, self.config.pretraining) if self.config.pretraining else (0.0,)

    def enter(self, stage: int) -> None:
        """The heads of pre-training learn before the last stage, the classifier in it."""
        self.pretrains = stage < len(self.stages()) - 1
        self.classifier.requires_grad_(not self.pretrains)
        if self.heads:
            self.heads.requires_grad_(self.pretrains)

    def forward(self, batch: Batch) -> Output:
        image, table = self._image(batch), self._table(batch)
        if self.pretrains and self.training:
            return self._pretrain(image, table, batch.available)
        read = self._read(batch.available)
        joint = self.fusion(self._columns(table), image, read, valid_tokens(table))
        return Output(self.classifier(joint[:, 0]), None)

    def final_layer(self) -> nn.Module:
        return self.classifier

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Encoders once, and once for an absent image and table, the rest three times."""
        nothing = Batch(*(values.new_zeros(1, *values.shape[1:]) for values in batch))
        B = len(batch.label)
        images = self._image(nothing).expand(B, -1, -1), self._image(batch)
        given = [self._table(part) for part in (nothing, batch)]
        tables = [self._columns(table).expand(B, -1, -1) for table in given]
        tokens = [valid_tokens(table) for table in given]
        valid = [None if there is None else there.expand(B, -1) for there in tokens]
        logits = {}
        for state, available in STATES.items():
            read = self._read(batch.available & batch.available.new_tensor(available))
            has_image, has_table = available
            joint = self.fusion(tables[has_table], images[has_image], read, valid[has_table])
            logits[state] = self.classifier(joint[:, 0])
        return logits

    def _image(self, batch: Batch) -> Float[Tensor, "B I D"]:
        return self.image_encoder(batch.image, batch.available[:, IMAGE])

    def _table(self, batch: Batch) -> Batch:
        """The same with what the variant says in place of each absent table, so that all are there;
        of a time series that is zeros, or no step."""
        available = batch.available.clone()
        has_table, available[:, TABULAR] = batch.available[:, TABULAR], True
        cells = cells_of(batch.numeric, batch.category)
        steps = 0 if self.native else batch.series.shape[1]
        table = batch._replace(
            series=batch.series.where(has_table[:, None, None], 0.0),
            length=batch.length.where(has_table, steps),
            available=available,
        )
        return self._with_cells(table, torch.where(has_table[:, None], cells, self.absent))

    def _with_cells(self, batch: Batch, cells: Float[Tensor, "B N"]) -> Batch:
        numeric, category = table_of(cells, len(self.tabular_encoder.embed.offsets))
        return batch._replace(numeric=numeric, category=category)

    def _columns(self, table: Batch) -> Float[Tensor, "B L D"]:
        return self.tabular_encoder(table, table.available[:, TABULAR])

    def _read(self, available: Bool[Tensor, "B 2"]) -> Bool[Tensor, " B"]:
        """Whose image the table attends to."""
        return available[:, IMAGE] if self.native else torch.ones_like(available[:, IMAGE])

    def _pretrain(
        self, image: Float[Tensor, "B I D"], table: Batch, available: Bool[Tensor, "B 2"]
    ) -> Output:
        """Three pairs of each sample through the fusion, then its masked table with its image."""
        assert self.heads
        B, paired, read = len(image), available.all(dim=1), self._read(available)
        columns = self._columns(self._corrupted(table, available[:, TABULAR]))
        vectors = self.heads.image(image.mean(dim=1)), self.heads.tabular(columns[:, 0])
        uniform = self.heads.noise.uniform(B, (2,), _NEGATIVE)
        drawn = draw_negatives(*vectors, paired, uniform, TEMPERATURE)
        tables = torch.cat([columns, columns, global_rows(columns)[drawn[:, 0]]])
        images = torch.cat([image, global_rows(image)[drawn[:, 1]], image])
        valid = valid_tokens(table)
        joint = self.fusion(tables, images, read.repeat(3), _valid_of_three(valid, drawn[:, 0]))
        matching = self.heads.matching(joint[:, 0]).view(3, B, 2).transpose(0, 1)
        hidden, masked = self._masked(table)
        rest = self.fusion(self._columns(hidden), image, read, valid)
        levels, numbers, steps = self.heads.cells(rest)
        found = Pretraining(*vectors, matching, levels, numbers, steps, masked)
        return Output(self.classifier(joint[:B, 0]), found)

    def _corrupted(self, table: Batch, has_table: Bool[Tensor, " B"]) -> Batch:
        """With some places of each table as in another."""
        assert self.heads
        cells = cells_of(table.numeric, table.category)
        (B, N), T = cells.shape, table.series.shape[1]
        chosen, uniform = (
            self.heads.noise.uniform(B, (N + T,), purpose) for purpose in (_CORRUPTED, _DONOR)
        )
        chosen = choose_columns(chosen, num_corrupted(N + T))
        cells = corrupt(cells, has_table, chosen[:, :N], uniform[:, :N])
        if T:
            filled = filled_steps(table.series, table.length)
            steps = corrupt_steps(table.series, filled, has_table, chosen[:, N:], uniform[:, N:])
            table = table._replace(series=steps)
        return self._with_cells(table, cells)

    def _masked(self, table: Batch) -> tuple[Batch, Bool[Tensor, "B M"]]:
        """With empty cells and steps in some places of each table, and which those are."""
        assert self.heads
        cells = cells_of(table.numeric, table.category)
        (B, N), T = cells.shape, table.series.shape[1]
        uniform = self.heads.noise.uniform(B, (N + T,), _MASKED)
        masked = choose_columns(uniform, num_masked(N + T))
        series = table.series.masked_fill(masked[:, N:, None], torch.nan)
        hidden = self._with_cells(table, cells.masked_fill(masked[:, :N], torch.nan))
        return hidden._replace(series=series), masked

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The task's alone; in pre-training the mean of its three parts, which are reported."""
        found = output.pretraining
        if found is None:
            return {"task": task_loss(output.logits, batch.label, self.task_loss)}
        paired = batch.available.all(dim=1)
        several = global_sum(paired.sum()) > 1
        contrastive = contrastive_loss(found.image, found.tabular, paired, TEMPERATURE)
        matching = matching_loss(found.matching, paired & several)
        masked, valid = found.masked & batch.available[:, TABULAR, None], valid_tokens(batch)
        reconstruction, any_masked = reconstruction_loss(
            found.levels,
            found.numbers,
            cells_of(batch.numeric, batch.category),
            masked if valid is None else masked & valid[:, 1:],
            self.tabular_encoder.embed.offsets,
            None if valid is None else (found.steps, batch.series),
        )
        parts = torch.stack([contrastive, matching, reconstruction])
        whole = mean_of_found(parts, torch.stack([several, several, any_masked]))
        return {**dict(zip(PARTS, parts.unbind(), strict=True)), "pretraining": whole}

    def weight(self, term: str) -> float:
        return 0.0 if term in PARTS else 1.0

    def after_step(self) -> None:
        if self.heads:
            self.heads.noise.advance()


class MultimodalEncoder(nn.Module):
    """TIP's psi: the table's tokens read the image's, which stay as they are.

    V = norm image;  `depth` layers over the table's tokens;  norm
    """

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.image_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(MultimodalLayer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.apply(initialise)

    def forward(
        self,
        columns: Float[Tensor, "B L D"],
        image: Float[Tensor, "B I D"],
        read: Bool[Tensor, " B"],
        valid: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """`read`: whose image is attended to. `valid`: which tokens of the table are; None: all."""
        image = self.image_norm(image)
        for layer in self.layers:
            columns = layer(columns, image, read, valid)
        return self.norm(columns)


class MultimodalLayer(TransformerBlock):
    """Pre-norm layer:

    x = x + attention(norm x);  x = x + attention(norm x to V);  x = x + feed_forward(norm x)
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_query = nn.Linear(width, width)
        self.cross_key_value = nn.Linear(width, 2 * width, bias=False)
        self.cross_project = nn.Linear(width, width)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        tokens: Float[Tensor, "B L D"],
        image: Float[Tensor, "B I D"],
        read: Bool[Tensor, " B"],
        valid: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        visible = seen_by_all(tokens, valid)
        tokens = tokens + self._attend(self.attention_norm(tokens), visible)
        seen = self._attend_to(image, self.cross_norm(tokens))
        tokens = tokens + seen.where(read[:, None, None], 0.0)
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))

    def _attend_to(
        self, image: Float[Tensor, "B I D"], tokens: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B L D"]:
        B, L, D = tokens.shape
        size = D // self.heads
        query = self.cross_query(tokens).view(B, L, self.heads, size).transpose(1, 2)
        pairs = self.cross_key_value(image).view(B, image.shape[1], 2, self.heads, size)
        key, value = pairs.permute(2, 0, 3, 1, 4)  # each (B, heads, I, D / heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.cross_project(mixed.transpose(1, 2).reshape(B, L, D))


class PretrainingHeads(nn.Module):
    """What learns in pre-training alone, and its random numbers."""

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        self.image = _projection(width)
        self.tabular = _projection(width)
        self.matching = nn.Linear(width, 2)
        self.cells = CellHeads(schema, width)
        self.noise = StepNoise()


class CellHeads(nn.Module):
    """What a cell or a step holds, told from its token: one map for all categorical columns, to the
    levels of all, one for all numbers, and one for all steps, to their channels."""

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        self.ends = [len(schema.category), len(schema.category) + len(schema.numeric)]
        num_levels = sum(len(levels) for levels in schema.category.values())
        self.levels = nn.Linear(width, num_levels) if num_levels else None
        self.number = nn.Linear(width, 1) if schema.numeric else None
        self.step = nn.Linear(width, len(schema.series)) if schema.steps else None
        self.apply(initialise)

    def forward(
        self, tokens: Float[Tensor, "B L D"]
    ) -> tuple[Float[Tensor, "B Fc K"], Float[Tensor, "B Fn"], Float[Tensor, "B T Fs"]]:
        codes, numbers, steps = tokens[:, 1:].tensor_split(self.ends, dim=1)
        return (
            self.levels(codes) if self.levels else codes[..., :0],
            self.number(numbers).squeeze(2) if self.number else numbers[..., 0],
            self.step(steps) if self.step else steps[..., :0],
        )


def _projection(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CONTRASTED))


def _valid_of_three(
    valid: Bool[Tensor, "B L"] | None, drawn: Int[Tensor, " B"]
) -> Bool[Tensor, "B3 L"] | None:
    """Which tokens of each sample's own table, twice, and of the table drawn for it are valid."""
    if valid is None:
        return None
    other = global_rows(valid.float())[drawn].bool()
    return torch.cat([valid, valid, other])


def num_masked(columns: int) -> int:
    """Half of the columns, 8.5 as 8; one at least."""
    return max(round(0.5 * columns), 1)


def num_corrupted(columns: int) -> int:
    """30 % of the columns, 5.1 as 5."""
    return 3 * columns // 10


def absent_cells(schema: Schema, empty: bool) -> Float[Tensor, " N"]:
    """The cells of a table that is not there: empty, or zeros: numbers at their mean, and
    categories of unseen levels, whose embedding is the zero vector."""
    if empty:
        return torch.full((len(schema.category) + len(schema.numeric),), torch.nan)
    return torch.tensor([float(UNSEEN)] * len(schema.category) + [0.0] * len(schema.numeric))
