"""Which hyperparameters decide, from trials of full length: two of Optuna's evaluators."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from dfpl.study.samplers import Space, share_of
from dfpl.study.space import Point

RESAMPLES = 100


class Importance(NamedTuple):
    """What one hyperparameter decides; each of the two adds up to 1 over all of them."""

    fanova: float
    """Share of the variance over the whole space that it explains alone (Hutter et al., 2014)."""
    ped_anova: float
    """Its share in what tells the best tenth of the trials from a draw of the space (Watanabe et
    al., 2023)."""
    low: float
    high: float
    """95 % interval of `ped_anova`: bootstrap over trials."""


def importances(
    points: Sequence[Point], values: Sequence[float], space: Space, seed: int
) -> dict[str, Importance]:
    """Of each hyperparameter; NaN where all values are equal, since then none decides anything."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if len(set(values)) == 1:
        nothing = Importance(np.nan, np.nan, np.nan, np.nan)
        return dict.fromkeys(space, nothing)
    trials = [_trial(point, value, space) for point, value in zip(points, values, strict=True)]
    random = np.random.default_rng(seed)
    drawn = [random.integers(len(trials), size=len(trials)) for _ in range(RESAMPLES)]
    again = [[trials[place] for place in places] for places in drawn]
    whole = _shares(FanovaImportanceEvaluator(seed=seed), trials)
    best = _shares(PedAnovaImportanceEvaluator(), trials)
    resampled = [
        _shares(PedAnovaImportanceEvaluator(), sample) for sample in again if _varies(sample)
    ]
    found = {}
    for name in space:
        low, high = np.percentile([shares[name] for shares in resampled], [2.5, 97.5]).tolist()
        found[name] = Importance(whole[name], best[name], low, high)
    return found


def _shares(evaluator: BaseImportanceEvaluator, trials: list[FrozenTrial]) -> dict[str, float]:
    study = optuna.create_study(direction=StudyDirection.MAXIMIZE)
    study.add_trials(trials)
    found = get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}


def _varies(trials: list[FrozenTrial]) -> bool:
    return len({trial.value for trial in trials}) > 1


def _trial(point: Point, value: float, space: Space) -> FrozenTrial:
    """A trial whose numbers are shares of their (log) ranges: fANOVA would take the mean over a
    log range on a plain scale, nine tenths of which are its last decade."""
    scaled: dict[str, BaseDistribution] = {}
    params: Point = {}
    for name, wanted in space.items():
        choice = isinstance(wanted, CategoricalDistribution)
        scaled[name] = wanted if choice else FloatDistribution(0.0, 1.0)
        params[name] = point[name] if choice else min(max(share_of(wanted, point[name]), 0.0), 1.0)
    return create_trial(params=params, distributions=scaled, value=value)
