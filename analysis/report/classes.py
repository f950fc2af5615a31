"""Section 4: each class in the three states, and what each modality contributes to it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from analysis.report.blocks import Block, chart, percents, section, several, text
from analysis.report.scores import ByClass, Scored
from analysis.report.study import Study
from dfpl.contribution import mean_over_classes, shapley
from dfpl.intervals import estimate

MOST_LINES, MOST_CLASSES = 24, 60
ORDER = ("both", "image only", "table only")
SCORES = {
    "accuracy": ("recall", "share of right labels"),
    "balanced_accuracy": ("recall", "mean of sensitivity and specificity"),
    "auroc": ("AUROC", "AUROC"),
    "prauc": ("average precision", "average precision"),
}
"""Of a class, by metric: where a sample has one label, and where it has several."""
GUESS = {
    "recall": "the share of the class, as of a guess drawn by the shares of the classes",
    "share of right labels": "p² + (1 − p)² at a share p, as of a guess drawn by it",
    "mean of sensitivity and specificity": "50 %",
    "AUROC": "50 %",
    "average precision": "the share of the class",
}
"""v(nothing), as in dfpl/contribution.py."""


def build(study: Study, scored: Sequence[Scored]) -> Block:
    how = (
        "Points are the score of a class where both, the image alone or the table alone are "
        "available; bars say how much of it each modality brings over a guess (Shapley values), on "
        "test samples that have both, with 95 % intervals (bootstrap over groups)."
    )
    known = [(own, own.by_class) for own in scored if own.by_class is not None]
    if not known:
        return section("classes", "Classes and modalities", how, [text("No predictions to score.")])
    first = known[0][1]
    name = SCORES[study.metric][first.task == "multilabel"]
    kept = np.argsort(first.counts, kind="stable")[::-1][:MOST_CLASSES].tolist()
    drawing = chart(
        "classes",
        f"{name[0].upper()}{name[1:]} of each class",
        score=name,
        states=list(ORDER),
        lines=[_line(own, by_class, kept) for own, by_class in known[:MOST_LINES]],
    )
    return section(
        "classes",
        "Classes and modalities",
        how,
        [drawing, text(_words(name)), *_left_out(known, first)],
    )


def _words(name: str) -> str:
    return (
        "With v the score in a state: image = ½ ((v(image) − v(nothing)) + (v(both) − v(table))), "
        "table alike; the two add up to v(both) − v(nothing). interaction = v(both) − v(image) − "
        "v(table) + v(nothing): above 0 the two tell more together than each alone, below 0 they "
        f"tell the same. v(nothing) is {GUESS[name]}."
    )


def _left_out(known: Sequence[tuple[Scored, ByClass]], first: ByClass) -> list[Block]:
    said = []
    if len(first.names) > MOST_CLASSES:
        said.append(
            f"The {MOST_CLASSES} most frequent of {len(first.names)} classes are shown; the mean "
            "is over all."
        )
    if len(known) > MOST_LINES:
        said.append(f"The first {MOST_LINES} of {several(len(known), 'config')} are shown.")
    return [text(" ".join(said))] if said else []


def _line(own: Scored, by_class: ByClass, kept: list[int]) -> Block:
    """The mean over classes comes first."""
    values = np.concatenate([mean_over_classes(by_class.values), by_class.values[..., kept]], -1)
    shares = shapley(values)
    states = zip(ORDER, values[1:], strict=True)
    return {
        "label": own.line.label,
        "trained": own.line.scenario,
        "seeds": len(own.drawn),
        "n": by_class.n,
        "names": ["mean over classes", *(by_class.names[c] for c in kept)],
        "counts": [by_class.n, *(by_class.counts[c] for c in kept)],
        "nothing": percents(values[0, 0]),
        "states": {name: _estimates(scores) for name, scores in states},
        "shares": {name: _estimates(found) for name, found in shares._asdict().items()},
    }


def _estimates(scores: Float[np.ndarray, "R C"]) -> Any:
    return percents([estimate(column) for column in scores.T])
