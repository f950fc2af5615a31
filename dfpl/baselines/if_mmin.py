"""IF-MMIN: what a missing modality would have said is imagined, as a frozen teacher once heard it.

Source       Zuo et al., "Exploiting Modality-Invariant Feature for Robust Multimodal Emotion
             Recognition with Missing Modalities", ICASSP 2023 (arXiv 2210.15359), and the
             mathematics of its public code, revision f4d65fc
What we kept two stages: complete samples alone with the central moment discrepancy of the shared
             features, then a student that starts as its frozen copy, the teacher, and is shown a
             part of each sample; one map for the shared features of all modalities; five
             autoencoders in a row, whose codes are classified; zeros at the input for what is
             absent and no other word of it: the network must infer what is missing; weights 1
             (imagination) and 100 (invariance, the value meant: the code's script passes it under
             a wrong name); Kaiming's initial weights
Deviations   the training data itself is incomplete: the teacher and all that it teaches are of the
             complete samples; the others have the task's loss alone
             a complete sample is left whole in one step of three (the code: never, as its tests
             have no complete samples); `drop` = "incomplete" is the code's way
             the imagined features are compared in the missing slot (the code: also in the other
             one, with the teacher's constant response to zeros); `target` = "published" is that
             discrepancies of tanh of the features over powers of the interval's length, as they
             are defined (the code: of features without bounds, not divided); `bounded` = False is
             that. None is taken of fewer than 8 samples
             the chained recursion of the present code, which is the paper's; `recursion` =
             "released" is that of the code of 2022, without its four decoders that nothing used
             one share of dropout (the code: 0.3 in the first stage, 0.5 in the second)
             the encoders, Adam and the budget, which the stages share, are those of all methods

B samples, C classes, D width; modalities in the order image, tabular.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.distributed import global_sum
from dfpl.encoders import EncodeMissing
from dfpl.encoders.config import PlainEncodersConfig
from dfpl.encoders.image import PlainImageEncoder
from dfpl.encoders.series import token_mean, valid_tokens
from dfpl.encoders.tabular import PlainTabularEncoder
from dfpl.fields import FloatRange
from dfpl.losses import mean_over, task_loss, task_losses
from dfpl.method import MODALITIES, STATES, Method
from dfpl.noise import StepNoise, drop_modality

NUM_BLOCKS = 5
"""Autoencoders of the imagination."""
NUM_MOMENTS = 5
FEWEST_SAMPLES = 8
"""Of which moments are compared."""
Drop = Literal["all", "incomplete", "none"]
Target = Literal["missing", "published"]
Recursion = Literal["chained", "released"]
_COMBINATION, _HIDDEN = 0, 1  # purposes of random numbers; one per hidden layer


class Config(PlainEncodersConfig):
    """The weights of IF-MMIN's terms, its size and its switches."""

    name: Literal["if_mmin"] = "if_mmin"
    pretraining: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the epochs in which the teacher learns from complete samples. Not 0: nothing can be
    imagined after a teacher that knows nothing."""
    discrepancy_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the difference of the moments of the shared features, in pre-training."""
    imagination_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the distance of imagined features from the teacher's."""
    invariance_weight: Annotated[float, Field(ge=0)] = 100.0
    """Of the distance of the shared features, of what is left, from the teacher's, of all."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the classifiers' hidden units that a training step leaves out."""
    drop: Drop = "all"
    """What each complete sample is shown as, at random in each step: in all three states, or with
    one modality alone, or always as it is; then nothing is ever imagined."""
    target: Target = "missing"
    """Slots in which imagined features are compared: the missing one, or both as in the code."""
    bounded: bool = True
    """Compare moments within [-1, 1], or of the features as they are."""
    recursion: Recursion = "chained"
    """What each autoencoder is given: the one before it, or a sum that none of them adds to."""
    encode_missing: EncodeMissing = "zeros"
    """Encode a zero input for an absent modality, or leave zero features without encoding. The
    features differ, and with them all that is learned."""


SEARCH_SPACE = {
    "method.discrepancy_weight": FloatRange(0.1, 10.0, log=True),
    "method.imagination_weight": FloatRange(0.1, 10.0, log=True),
    "method.invariance_weight": FloatRange(1.0, 1000.0, log=True),
    "method.dropout": FloatRange(0.0, 0.7),
}


class Features(NamedTuple):
    """What is said of each sample in the slots of the two modalities."""

    specific: Float[Tensor, "B 2 D"]
    """h: the mean of a modality's tokens."""
    shared: Float[Tensor, "B 2 D"]
    """H = S(h)."""


class PretrainingOutput(NamedTuple):
    """What `forward` found in the first stage."""

    logits: Float[Tensor, "B C"]
    """In training, of no meaning where a sample is incomplete."""
    shared: Float[Tensor, "B 2 D"]


class Output(NamedTuple):
    """What `forward` found in the second stage."""

    logits: Float[Tensor, "B C"]
    available: Bool[Tensor, "B 2"]
    """What is left of the batch's availability after dropping."""
    shared: Float[Tensor, "B 2 D"]
    """H', of what is left."""
    imagined: Float[Tensor, "B 2 D"]
    taught: Features | None
    """The teacher's, of complete samples as they are, and 0 for the others; only in training."""


class Encoders(nn.Module):
    """The networks that the stages have in common."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        D, missing = config.width, config.encode_missing
        self.image = PlainImageEncoder(config.image_network, D, missing, schema.image_kind)
        self.tabular = PlainTabularEncoder(
            schema, D, config.tabular_depth, config.tabular_heads, missing
        )
        self.share = nn.Sequential(nn.Linear(D, D), nn.LeakyReLU(), nn.Linear(D, D), nn.LeakyReLU())
        """S, one for all modalities."""
        self.share.apply(_initialise)

    def forward(self, batch: Batch) -> Features:
        return self._features(self.specific(batch))

    def of_complete(self, batch: Batch) -> Features:
        """Of the complete samples, encoded without the others, whose specific features are 0."""
        rows = batch.available.all(dim=1).nonzero().squeeze(1)
        found = self.specific(Batch(*(values[rows] for values in batch)))
        everyone = found.new_zeros(len(batch.available), *found.shape[1:])
        return self._features(everyone.index_copy(0, rows, found))

    def specific(self, batch: Batch) -> Float[Tensor, "B 2 D"]:
        image = self.image(batch.image, batch.available[:, IMAGE])
        tabular = self.tabular(batch, batch.available[:, TABULAR])
        return torch.stack([image.mean(dim=1), token_mean(tabular, valid_tokens(batch))], dim=1)

    def of_nothing(self, batch: Batch) -> Float[Tensor, "2 D"]:
        """The specific features of modalities that are absent; as many inputs as in `batch`."""
        nothing = Batch(*(values.new_zeros(1, *values.shape[1:]) for values in batch))
        return self.specific(nothing)[0]

    def _features(self, specific: Float[Tensor, "B 2 D"]) -> Features:
        return Features(specific, self.share(specific))


class Teacher(Encoders):
    """Encoders that neither learn nor change: always in evaluation mode."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__(config, schema)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Teacher":
        return super().train(False)


class Imagination(nn.Module):
    """Five autoencoders in a row; their codes are what is classified.

        o_0 = h',   c_k = encode_k(o_(k-1) + H'),   o_k = decode_k(c_k),   imagined = map(o_5)

    "released": c_k = encode_k(h' + k H'),   imagined = map(h' + 5 H' + decode_5(c_5))
    """

    def __init__(self, width: int, recursion: Recursion) -> None:
        super().__init__()
        sizes = (2 * width, width, width // 2, width // 4)
        self.chained = recursion == "chained"
        decoders = NUM_BLOCKS if self.chained else 1
        self.encoders = nn.ModuleList(_layers(sizes, nn.LeakyReLU) for _ in range(NUM_BLOCKS))
        self.decoders = nn.ModuleList(_layers(sizes[::-1], nn.ReLU) for _ in range(decoders))
        self.map = _layers((2 * width,) * 3, nn.ReLU)
        self.apply(_initialise)

    def forward(
        self, specific: Float[Tensor, "B twoD"], shared: Float[Tensor, "B twoD"]
    ) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B twoD"]]:
        """Return the codes, E = 5 D / 4, and the imagined features."""
        codes, out = [], specific
        for k, encode in enumerate(self.encoders):
            out = out + shared
            codes.append(encode(out))
            if self.chained:
                out = self.decoders[k](codes[k])
        if not self.chained:
            out = out + self.decoders[0](codes[-1])
        return torch.cat(codes, dim=1), self.map(out)


class Classifier(nn.Module):
    """Two hidden layers of D / 2 units with dropout."""

    def __init__(self, size: int, num_classes: int, config: Config) -> None:
        super().__init__()
        self.dropout, half = config.dropout, config.width // 2
        self.hidden = nn.ModuleList([nn.Linear(size, half), nn.Linear(half, half)])
        self.out = nn.Linear(half, num_classes)
        self.apply(_initialise)

    def forward(self, values: Float[Tensor, "B E"], noise: StepNoise) -> Float[Tensor, "B C"]:
        for number, layer in enumerate(self.hidden):
            values = self._dropped(layer(values).relu(), noise, _HIDDEN + number)
        return self.out(values)

    def _dropped(
        self, hidden: Float[Tensor, "B H"], noise: StepNoise, purpose: int
    ) -> Float[Tensor, "B H"]:
        if not self.training or self.dropout == 0:
            return hidden
        kept = noise.uniform(len(hidden), hidden.shape[1:], purpose) >= self.dropout
        return (hidden / (1 - self.dropout)).where(kept, 0.0)


class Model(Method):
    """IF-MMIN for one schema; as in its second stage until it is told another."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        self.config = c = config
        self.task_loss = "bce" if schema.task == "multilabel" else c.task_loss
        C = schema.num_classes
        self.student = Encoders(c, schema)
        self.teacher = Teacher(c, schema)
        self.pretraining_classifier = Classifier(4 * c.width, C, c)
        self.imagination = Imagination(c.width, c.recursion)
        self.classifier = Classifier(NUM_BLOCKS * (c.width // 4), C, c)
        self.noise = StepNoise()
        self.enter(1)

    def stages(self) -> tuple[float, ...]:
        return (0.0, self.config.pretraining)

    def enter(self, stage: int) -> None:
        """The second stage begins with a student and a teacher that are alike."""
        self.stage = stage
        self.pretraining_classifier.requires_grad_(stage == 0)
        self.imagination.requires_grad_(stage == 1)
        self.classifier.requires_grad_(stage == 1)
        if stage == 1:
            self.teacher.load_state_dict(self.student.state_dict())

    def forward(self, batch: Batch) -> PretrainingOutput | Output:
        return self._pretrain(batch) if self.stage == 0 else self._imagine(batch)

    def _pretrain(self, batch: Batch) -> PretrainingOutput:
        """In training nothing is encoded but the complete samples; otherwise what is absent has
        zero features."""
        if self.training:
            specific, shared = self.student.of_complete(batch)
        else:
            specific = self.student.specific(batch).where(batch.available[..., None], 0.0)
            shared = self.student.share(specific)
        return PretrainingOutput(self._classify_all(specific, shared), shared)

    def _classify_all(
        self, specific: Float[Tensor, "B 2 D"], shared: Float[Tensor, "B 2 D"]
    ) -> Float[Tensor, "B C"]:
        return self.pretraining_classifier(torch.cat([specific, shared], 1).flatten(1), self.noise)

    def _imagine(self, batch: Batch) -> Output:
        left = self._dropped(batch.available)
        specific, shared = self.student(batch._replace(available=left))
        codes, imagined = self.imagination(specific.flatten(1), shared.flatten(1))
        logits = self.classifier(codes, self.noise)
        taught = self._teach(batch, left) if self.training else None
        return Output(logits, left, shared, imagined.view_as(specific), taught)

    def _dropped(self, available: Bool[Tensor, "B 2"]) -> Bool[Tensor, "B 2"]:
        drop = self.config.drop
        if not self.training or drop == "none":
            return available
        uniform = self.noise.uniform(len(available), (1,), _COMBINATION)[:, 0]
        states = torch.tensor([drop == "all", True, True], device=available.device)
        return drop_modality(available, uniform, states)

    @torch.no_grad()
    def _teach(self, batch: Batch, left: Bool[Tensor, "B 2"]) -> Features:
        """What the imagined and the shared features should be, of complete samples."""
        taught = self.teacher.of_complete(batch)
        if self.config.target == "missing":
            return taught
        nothing = self.teacher.of_nothing(batch)
        return taught._replace(specific=torch.where(left[..., None], nothing, taught.specific))

    def final_layer(self) -> nn.Module:
        return self.classifier.out

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Encoders once, and once for a sample that lacks everything; the rest three times."""
        specific, there = self.student.specific(batch), batch.available
        nothing = self.student.of_nothing(batch) if self.stage == 1 else specific.new_zeros(())
        logits = {}
        for state, available in STATES.items():
            mask = there & torch.tensor(available, device=there.device)
            logits[state] = self._logits(torch.where(mask[..., None], specific, nothing))
        return logits

    def representations(self, batch: Batch) -> dict[str, Float[Tensor, "B _"]]:
        """The student's; the specific features are what the shared ones are made from."""
        found = self.student(batch)
        return {
            f"{modality} {branch} features": values[:, column]
            for column, modality in enumerate(MODALITIES)
            for branch, values in (("shared", found.shared), ("specific", found.specific))
        }

    def _logits(self, specific: Float[Tensor, "B 2 D"]) -> Float[Tensor, "B C"]:
        shared = self.student.share(specific)
        if self.stage == 0:
            return self._classify_all(specific, shared)
        codes, _ = self.imagination(specific.flatten(1), shared.flatten(1))
        return self.classifier(codes, self.noise)

    def losses(
        self, output: PretrainingOutput | Output, batch: Batch
    ) -> dict[str, Float[Tensor, ""]]:
        """Pre-training: L_task + L_discrepancy, of the complete samples; then
        L_task, of all, + L_imagination + L_invariance, of the complete ones."""
        complete = batch.available.all(dim=1)
        if isinstance(output, PretrainingOutput):
            losses = task_losses(output.logits, batch.label, self.task_loss).mean(dim=1)
            image, tabular = output.shared.unbind(dim=1)
            return {
                "task": mean_over(losses, complete),
                "discrepancy": moment_discrepancy(image, tabular, complete, self.config.bounded),
            }
        assert output.taught is not None
        counted = self._counted(output.available, complete)
        distance = (output.shared - output.taught.shared).square().mean(dim=(1, 2))
        return {
            "task": task_loss(output.logits, batch.label, self.task_loss),
            "imagination": imagination_loss(output.imagined, output.taught.specific, counted),
            "invariance": mean_over(distance, complete),
        }

    def _counted(
        self, left: Bool[Tensor, "B 2"], complete: Bool[Tensor, " B"]
    ) -> Bool[Tensor, "B 2"]:
        """The slots in which what is imagined has a target."""
        missing = ~left & complete[:, None]
        if self.config.target == "missing":
            return missing
        return missing.any(dim=1, keepdim=True).expand_as(missing)

    def weight(self, term: str) -> float:
        return 1.0 if term == "task" else getattr(self.config, f"{term}_weight")

    def after_step(self) -> None:
        self.noise.advance()


def _layers(sizes: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    """Linear maps with an activation between them, and none after the last."""
    maps = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), activation())]
    return nn.Sequential(*maps[:-1])


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


def moment_discrepancy(
    image: Float[Tensor, "B D"],
    tabular: Float[Tensor, "B D"],
    complete: Bool[Tensor, " B"],
    bounded: bool,
) -> Float[Tensor, ""]:
    """Central moment discrepancy of two distributions X and Y, over the complete samples:

    |E X - E Y| / 2  +  sum_(k = 2..5)  |E (X - E X)^k - E (Y - E Y)^k| / 2^k

    of x = tanh of the features, within an interval of length 2; else of the features themselves
    and without the divisors. |v| = sqrt(sum_d v_d^2 + 1e-12), as the norm itself has no gradient
    where the moments agree. Exactly 0, without gradient, if there are fewer than 8 samples.
    """
    values = torch.stack([image, tabular])  # (2, B, D)
    values = values.tanh() if bounded else values
    count = global_sum(complete.sum().to(values.dtype))

    def mean(values: Float[Tensor, "*axes B D"]) -> Float[Tensor, "*axes D"]:
        return global_sum(values.where(complete[:, None], 0.0).sum(dim=-2)) / count.clamp(min=1)

    first = mean(values)  # (2, D)
    centred = values - first[:, None]
    higher = mean(torch.stack([centred**k for k in range(2, NUM_MOMENTS + 1)]))  # (4, 2, D)
    moments = torch.cat([first[None], higher])
    gaps = moments[:, 0] - moments[:, 1]  # (5, D)
    norms = (gaps.square().sum(dim=1) + 1e-12).sqrt()
    if bounded:
        norms = norms / 2.0 ** torch.arange(1, NUM_MOMENTS + 1, device=norms.device)
    return norms.sum().where(count >= FEWEST_SAMPLES, 0.0)


def imagination_loss(
    imagined: Float[Tensor, "B 2 D"], target: Float[Tensor, "B 2 D"], counted: Bool[Tensor, "B 2"]
) -> Float[Tensor, ""]:
    """Mean over the samples with a counted slot, over those slots, and over D, of

    (imagined_d - target_d)^2
    """
    distance = (imagined - target).square().mean(dim=2).where(counted, 0.0)
    slots = counted.sum(dim=1)
    return mean_over(distance.sum(dim=1) / slots.clamp(min=1), slots > 0)
