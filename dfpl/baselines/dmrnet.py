"""DMRNet: probabilistic embeddings of decoupled modality combinations, and a harder penalty where
a combination is hard.

Source       Wei et al., "Robust Multimodal Learning via Representation Decoupling", ECCV 2024,
             and the mathematics of its public code (audio-visual task), revision 8472850
What we kept one encoder per modality; features, not inputs, set to 0; mean and log variance each
             by a linear map and a batch normalisation; one sample of the embedding in training,
             its mean otherwise; the Kullback-Leibler term, summed over dimensions, alpha = 1e-3;
             the hard combination, the one of larger mean variance over the first six epochs, and
             beta = 0.2; a combination drawn for each complete sample in each step
Deviations   it is drawn from those that the training data shows (the code: from all), as a
             scenario says which may occur; `drop` = "all" and "none" are the other readings
             the hard term is of the hard samples alone, as intended: in the code, weights of shape
             (B, 1, 1, 1) on losses of shape (B,) make it that of all samples times the number of
             hard ones; `hard_loss` = "published" is that
             variances are summed over the epochs and divided once: the code divides in each batch
             and is NaN for ever after one without a combination
             log variance is held within [-10, 10]; no bias before a batch normalisation, which
             would take it out again; one sample alone is normalised by the running statistics
             the encoders, Adam and the budget are those of all methods

B samples, C classes, D width.
"""

from math import inf
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.distributed import global_sum, world_size
from dfpl.encoders.config import PlainEncodersConfig
from dfpl.encoders.image import PlainImageEncoder
from dfpl.encoders.series import token_mean, valid_tokens
from dfpl.encoders.tabular import PlainTabularEncoder
from dfpl.fields import FloatRange
from dfpl.losses import mean_over, task_loss, task_losses
from dfpl.method import STATES, Method
from dfpl.noise import StepNoise, drop_modality

MOST_LOG_VARIANCE = 10.0
Drop = Literal["observed", "all", "none"]
HardLoss = Literal["selective", "published"]
_EMBEDDING, _COMBINATION = range(2)  # purposes of random numbers


class Config(PlainEncodersConfig):
    """The weights of DMRNet's terms, its size and its switches."""

    name: Literal["dmrnet"] = "dmrnet"
    alpha: Annotated[float, Field(ge=0)] = 1e-3
    """Weight of the Kullback-Leibler term, a sum over 2D: an equally strong one falls with it."""
    beta: Annotated[float, Field(ge=0)] = 0.2
    """Weight of the further loss on samples of the hard combination."""
    hard_from: Annotated[int, Field(ge=0)] = 6
    """Epochs over which the hard combination is found; its loss is added after them."""
    drop: Drop = "observed"
    """Combinations that complete samples are put into in training: those that training data shows,
    all three, or none but their own."""
    hard_loss: HardLoss = "selective"
    """The hard samples' loss, or that of all samples times their number as in the public code."""
    sampling: bool = True
    """Sample the embedding in training; off takes its mean."""


SEARCH_SPACE = {
    "method.alpha": FloatRange(1e-4, 1e-2, log=True),
    "method.beta": FloatRange(0.1, 1.0, log=True),
}


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]
    mean: Float[Tensor, "B twoD"]
    """mu of the embedding."""
    log_variance: Float[Tensor, "B twoD"]
    """log sigma^2 of the embedding."""
    available: Bool[Tensor, "B 2"]
    """What is left of the batch's availability after dropping."""
    hard: Bool[Tensor, " B"]
    """Whose combination is the hard one; nobody's in the first epochs."""


class Model(Method):
    """DMRNet for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        c = self.config = config
        self.task_loss = "bce" if schema.task == "multilabel" else c.task_loss
        self.image_encoder = PlainImageEncoder(
            c.image_network, c.width, c.encode_missing, schema.image_kind
        )
        self.tabular_encoder = PlainTabularEncoder(
            schema, c.width, c.tabular_depth, c.tabular_heads, c.encode_missing
        )
        self.embedding = Embedding(2 * c.width)
        self.classifier = nn.Linear(2 * c.width, schema.num_classes)
        self.noise = StepNoise()
        self.watch = CombinationWatch(c.hard_from)

    def forward(self, batch: Batch) -> Output:
        features = self._encode(batch)
        if not self.training:
            return self._decide(features, batch.available)
        self.watch.see(batch.available)
        return self._decide(features, self._dropped(batch.available))

    def final_layer(self) -> nn.Module:
        return self.classifier

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Encoders once, the rest three times: features do not see the other modality."""
        features, there = self._encode(batch), batch.available
        return {
            state: self._decide(
                features, there & torch.tensor(available, device=there.device)
            ).logits
            for state, available in STATES.items()
        }

    def _encode(self, batch: Batch) -> Float[Tensor, "B 2 D"]:
        has_image, has_table = batch.available[:, IMAGE], batch.available[:, TABULAR]
        image = self.image_encoder(batch.image, has_image)
        tabular = self.tabular_encoder(batch, has_table)
        return torch.stack([image.mean(dim=1), token_mean(tabular, valid_tokens(batch))], dim=1)

    def _dropped(self, available: Bool[Tensor, "B 2"]) -> Bool[Tensor, "B 2"]:
        if self.config.drop == "none":
            return available
        occurred = self.watch.occurred > 0
        states = torch.ones_like(occurred) if self.config.drop == "all" else occurred
        uniform = self.noise.uniform(len(available), (1,), _COMBINATION)[:, 0]
        return drop_modality(available, uniform, states)

    def _decide(self, features: Float[Tensor, "B 2 D"], available: Bool[Tensor, "B 2"]) -> Output:
        """z = mu + noise sigma,  logits = W z + b,  with z = mu outside of training."""
        left = torch.where(available[..., None], features, 0.0)
        mean, log_variance = self.embedding(left.flatten(1))
        z = mean
        if self.training:
            self.watch.add(log_variance, available)
            if self.config.sampling:
                normal = self.noise.normal(len(mean), mean.shape[1], _EMBEDDING)
                z = mean + normal.to(mean.dtype) * (log_variance / 2).exp()
        return Output(
            self.classifier(z), mean, log_variance, available, self.watch.is_hard(available)
        )

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        losses = task_losses(output.logits, batch.label, self.task_loss).mean(dim=1)
        return {
            "task": task_loss(output.logits, batch.label, self.task_loss),
            "divergence": gaussian_divergence(output.mean, output.log_variance),
            "hard_combination": hard_combination_loss(losses, output.hard, self.config.hard_loss),
        }

    def weight(self, term: str) -> float:
        """L = L_task + alpha KL + beta L_hard."""
        weights = {"divergence": self.config.alpha, "hard_combination": self.config.beta}
        return weights.get(term, 1.0)

    def after_step(self) -> None:
        self.noise.advance()
        self.watch.in_epoch = True

    def train(self, mode: bool = True) -> "Model":
        """An epoch is over when the loop turns from training to validation."""
        if not mode:
            self.watch.end_epoch()
        return super().train(mode)


class Embedding(nn.Module):
    """A normal distribution of the embedding for each sample, with independent dimensions.

    mu = BN(W_mu f),  log sigma^2 = BN(W_sigma f)
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.Linear(size, size, bias=False)
        self.mean_norm = nn.BatchNorm1d(size)
        self.log_variance = nn.Linear(size, size, bias=False)
        self.log_variance_norm = nn.BatchNorm1d(size)

    def forward(
        self, features: Float[Tensor, "B twoD"]
    ) -> tuple[Float[Tensor, "B twoD"], Float[Tensor, "B twoD"]]:
        mean = _normalise(self.mean_norm, self.mean(features))
        log_variance = _normalise(self.log_variance_norm, self.log_variance(features))
        return mean, log_variance.clamp(-MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)


def _normalise(norm: nn.BatchNorm1d, values: Float[Tensor, "B twoD"]) -> Float[Tensor, "B twoD"]:
    """In float32 at least. One sample has no variance: the running one takes its place."""
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if norm.training and len(values) == world_size() == 1:
        statistics = (norm.running_mean, norm.running_var)
        return F.batch_norm(values, *statistics, norm.weight, norm.bias, eps=norm.eps)
    return norm(values)


class CombinationWatch(nn.Module):
    """What training has shown of the combinations (both, image only, table only), on all workers:
    which occur, and how uncertain the embedding is in each."""

    occurred: Tensor
    variance: Tensor
    count: Tensor
    epoch: Tensor

    def __init__(self, hard_from: int) -> None:
        super().__init__()
        self.hard_from = hard_from
        self.in_epoch = False
        self.register_buffer("occurred", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("variance", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def see(self, available: Bool[Tensor, "B 2"]) -> None:
        """Count the combinations that the data has, before any are drawn."""
        self.occurred += global_sum(combinations(available).sum(dim=0).double())

    @torch.no_grad()
    def add(self, log_variance: Float[Tensor, "B twoD"], available: Bool[Tensor, "B 2"]) -> None:
        """Sum the mean of sigma^2 over dimensions, and the samples, of each combination, in the
        epochs before `hard_from`."""
        of = combinations(available).double()  # (B, 3)
        variance = log_variance.double().exp().mean(dim=1)
        own = torch.stack([variance @ of, of.sum(dim=0)])
        variance, count = global_sum(own) * (self.epoch < self.hard_from)
        self.variance += variance
        self.count += count

    def is_hard(self, available: Bool[Tensor, "B 2"]) -> Bool[Tensor, " B"]:
        """Whether a sample has one modality, the one in whose absence of the other the embedding
        varied more; or the only one that occurred."""
        found = self.count[1:] > 0
        means = (self.variance[1:] / self.count[1:].clamp(min=1)).masked_fill(~found, -inf)
        first = means[0] >= means[1]
        hard = torch.stack([first, ~first]) & found & (self.epoch >= self.hard_from)
        return (combinations(available)[:, 1:] & hard).any(dim=1)

    def end_epoch(self) -> None:
        self.epoch += int(self.in_epoch)
        self.in_epoch = False


def combinations(available: Bool[Tensor, "B 2"]) -> Bool[Tensor, "B 3"]:
    """One column per state: both, image only, table only."""
    image, table = available.unbind(dim=1)
    return torch.stack([image & table, image & ~table, ~image & table], dim=1)


def gaussian_divergence(
    mean: Float[Tensor, "B twoD"], log_variance: Float[Tensor, "B twoD"]
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence from N(mu, sigma^2) to N(0, 1), the mean over the samples of

    sum_d  (sigma_d^2 + mu_d^2 - log sigma_d^2 - 1) / 2
    """
    values = (log_variance.exp() + mean.square() - log_variance - 1).sum(dim=1) / 2
    return mean_over(values, torch.ones_like(values, dtype=torch.bool))


def hard_combination_loss(
    losses: Float[Tensor, " B"], hard: Bool[Tensor, " B"], kind: HardLoss
) -> Float[Tensor, ""]:
    """The task's loss once more, of the samples of the hard combination:

        L_hard = 1 / B  sum_i  w_i l_i,   w_i = 1 if sample i is hard, else 0

    "published": what the public code computes, (1 / B  sum_i l_i) (sum_i w_i).
    """
    everyone = torch.ones_like(hard)
    if kind == "published":
        return mean_over(losses, everyone) * global_sum(hard.sum().to(losses.dtype))
    return mean_over(losses.where(hard, 0.0), everyone)
