"""Figure 6: what two methods classify the same samples from, as t-SNE, and numbers beside it.

Run       python -m analysis.figure6 A.parquet B.parquet [--classes 10]
Reads     what dfpl evaluate MODEL --data DATA --split val --save-representations FILE wrote, of two
          models and the same data and split
Makes     figure6.svg, .png and .csv (coordinates) and figure6_scores.csv beside A or in --out: one
          panel per model, below it how well classes part in the space that was projected
Paper     DrFuse and DFPL, 10 classes of DVM, validation split; no numbers printed

A sample's vector is what its logits are read from: where each class has a vector of its own, that
of the predicted class, else the one for all classes. The first kind contains the decision, so two
models compare best if both are of one kind. Never is it the vector of the true class: queries of
different classes look at different places, so that the label alone would part the samples (measured
on HAM10000: of an untrained DFPL 37 % instead of 22 % of neighbours were of a sample's class, of an
untrained DrFuse, whose queries are made from the sample, 24 % instead of 23 %).

t-SNE proves nothing: sizes of clusters and gaps between them mean little. The numbers are of the
space that was projected.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from jaxtyping import Float, Int, Shaped
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.curves import save
from analysis.separation import line, scores_of
from analysis.table1 import label
from dfpl.data.packed import DataError
from dfpl.fields import ConfigError, unknown_name
from dfpl.predictions import State
from dfpl.representations import Facts, Representations, read
from dfpl.storage import Storage

MARKS = (
    *(("#0b3c8c", "o"), ("#e69f00", "s"), ("#56b4e9", "^"), ("#009e73", "D"), ("#d55e00", "v")),
    *(("#000000", "P"), ("#cc79a7", "X"), ("#9a8f00", "<"), ("#7f7f7f", ">"), ("#8c2d04", "*")),
)
"""Colour and marker of each class, in order."""
PERPLEXITY = 30.0
MOST_SAMPLES = 2000
"""Of more, as many are drawn."""
PER_CLASS = 3
"""Samples per class, on average, below which nothing can be said of neighbours."""


@dataclass(frozen=True)
class Options:
    a: tyro.conf.Positional[str]
    """Representations of the model at the left."""
    b: tyro.conf.Positional[str]
    """Representations of the model at the right."""
    classes: str = str(len(MARKS))
    """How many of the most frequent classes, at most 10; or their names, separated by commas."""
    seed: int = 0
    """Of t-SNE, the same for both; and of which samples are drawn where there are over 2000."""
    state: State = "both"
    """What is available."""
    out: str = ""
    """Folder for the files. Default: that of A."""


@dataclass(frozen=True, eq=False)
class Picked:
    """The same samples of two models."""

    facts: tuple[Facts, Facts]
    state: State
    titles: tuple[str, str]
    vectors: tuple[Float[np.ndarray, "N _"], Float[np.ndarray, "N _"]]
    classes: list[str]
    """The most frequent first."""
    of_class: Int[np.ndarray, " N"]
    """Place of each sample's true class in `classes`."""
    ids: Shaped[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"]
    num_found: int
    """Samples of these classes, of which these were drawn."""


def pick(a: Representations, b: Representations, classes: str, seed: int) -> Picked:
    """The samples of these classes. Raises ConfigError where the two are not of the same samples,
    where a sample has several classes, or where there are too few."""
    _same_samples(a, b)
    wanted = _classes(a, classes)
    position = {c: place for place, c in enumerate(wanted)}
    rows = np.flatnonzero(np.isin(a.label, wanted))
    num_found = len(rows)
    if num_found > MOST_SAMPLES:
        drawn = np.random.default_rng(seed).choice(num_found, MOST_SAMPLES, replace=False)
        rows = rows[np.sort(drawn)]
    if len(wanted) < 2 or len(rows) < PER_CLASS * len(wanted):
        raise ConfigError(
            f"{len(rows)} samples of {len(wanted)} classes say nothing of how classes part: there "
            f"must be 2 classes with {PER_CLASS} samples each on average; ask for other --classes"
        )
    return Picked(
        facts=(a.facts, b.facts),
        state=a.state,
        titles=_titles(a.facts, b.facts),
        vectors=(a.vectors[rows].astype(np.float64), b.vectors[rows].astype(np.float64)),
        classes=[a.facts.class_names[c] for c in wanted],
        of_class=np.array([position[c] for c in a.label[rows].tolist()]),
        ids=a.ids[rows],
        groups=a.groups[rows],
        num_found=num_found,
    )


def _same_samples(a: Representations, b: Representations) -> None:
    """Rows are in the order of the data: its hash and the split tell, also where ids are hashed."""
    for name in ("data_hash", "split"):
        own, other = getattr(a.facts, name), getattr(b.facts, name)
        if own != other:
            raise ConfigError(
                f"the files differ in {name} ({own}, {other}): save both with the same --data and "
                "--split"
            )
    if a.facts.task == "multilabel":
        raise ConfigError(f"a sample of {a.facts.dataset} has several classes, hence no one colour")
    if not (np.array_equal(a.place, b.place) and np.array_equal(a.label, b.label)):
        raise ConfigError("the files differ in their samples, though the data's hash is the same")


def _classes(found: Representations, asked: str) -> list[int]:
    """Numbers of the classes, the most frequent in the state first."""
    names = found.facts.class_names
    counts = np.bincount(found.label, minlength=len(names))
    order = [c for c in np.argsort(-counts, kind="stable").tolist() if counts[c]]
    if asked.isdigit():
        chosen = order[: int(asked)]
    else:
        wanted = [name.strip() for name in asked.split(",")]
        if unknown := [name for name in wanted if name not in names]:
            raise ConfigError(unknown_name(unknown[0], names).replace("field", "class"))
        chosen = [c for c in order if names[c] in wanted]
    if len(chosen) > len(MARKS) or (asked.isdigit() and int(asked) > len(MARKS)):
        raise ConfigError(f"--classes must be at most {len(MARKS)}, to be told apart; got {asked}")
    return chosen


def _titles(a: Facts, b: Facts) -> tuple[str, str]:
    """Names of the models; with their training where a method is compared with itself."""
    if a.method != b.method:
        return label(a.method), label(b.method)
    return f"A: {label(a.method)}, {a.run_id}", f"B: {label(b.method)}, {b.run_id}"


def build(picked: Picked, seed: int) -> pd.DataFrame:
    """One line per model and sample, with its place in the plane, which has no unit."""
    first = picked.facts[0]
    told = {"dataset": first.dataset, "split": first.split, "state": picked.state}
    names = [picked.classes[place] for place in picked.of_class]
    frames = []
    for facts, title, vectors in zip(picked.facts, picked.titles, picked.vectors, strict=True):
        plane = projected(vectors, seed)
        model = {"model": title, "method": facts.method, "vector": kind_of(facts)}
        samples = {"id": picked.ids, "group": picked.groups, "class": names}
        places = {"x": plane[:, 0], "y": plane[:, 1]}
        frames.append(pd.DataFrame({**told, **model, **samples, **places}))
    return pd.concat(frames, ignore_index=True)


def projected(vectors: Float[np.ndarray, "N E"], seed: int) -> Float[np.ndarray, "N 2"]:
    """t-SNE by cosine distance, from the first two principal components."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    plane = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    return plane.fit_transform(vectors).astype(np.float64)


def scores(picked: Picked) -> pd.DataFrame:
    """How well classes part, of each model, and by how much more at the right than at the left."""
    return scores_of(picked.titles, picked.vectors, picked.of_class, picked.groups)


def kind_of(facts: Facts) -> str:
    return "vector of the predicted class" if facts.rows else "one vector for all classes"


def draw(frame: pd.DataFrame, numbers: pd.DataFrame, picked: Picked) -> Figure:
    """A panel per model with its numbers below, one legend."""
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    marks = dict(zip(picked.classes, MARKS, strict=False))
    panels = figure.subplots(1, 2)
    for axes, title, facts in zip(panels, picked.titles, picked.facts, strict=True):
        own = frame[frame["model"] == title]
        for name, (colour, marker) in marks.items():
            points = own[own["class"] == name]
            style = {"s": 16, "linewidths": 0.3, "edgecolors": "white", "alpha": 0.85}
            axes.scatter(points["x"], points["y"], c=colour, marker=marker, **style)
        axes.set_title(f"{title}\n{kind_of(facts)}", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        lines = [line(row) for row in numbers.to_dict("records") if row["model"] == title]
        axes.set_xlabel("\n".join(["t-SNE axis 1 (no unit)", *lines]), fontsize=9)
    panels[0].set_ylabel("t-SNE axis 2 (no unit)", fontsize=9)
    counts = np.bincount(picked.of_class, minlength=len(picked.classes))
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=f"{name} (n = {count})")
        for (name, (colour, marker)), count in zip(marks.items(), counts, strict=True)
    ]
    figure.legend(handles=handles, loc="outside right center", fontsize=9, title="true class")
    figure.suptitle(told(picked, numbers), fontsize=9)
    return figure


def told(picked: Picked, numbers: pd.DataFrame) -> str:
    """What the figure is of, and how its numbers are made."""
    first, n = picked.facts[0], len(picked.ids)
    some = f"{n} of the {picked.num_found} samples" if n < picked.num_found else f"n = {n} samples"
    available = "image and table" if picked.state == "both" else f"the {picked.state} alone"
    trained = " and ".join(dict.fromkeys(facts.scenario for facts in picked.facts))
    chance = 100 / len(picked.classes)
    return (
        f"{first.dataset}, {first.split} split, {some} ({numbers['groups'].iloc[0]} groups) with "
        f"{available}; trained in {trained}\nnumbers: in the original space, by cosine, [95 % "
        "interval over groups]; neighbours of other groups, mean over classes, "
        f"chance {chance:.1f} %"
    )


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    paths = [Path(path).expanduser() for path in (options.a, options.b)]
    try:
        a, b = (read(path, options.state) for path in paths)
        picked = pick(a, b, options.classes, options.seed)
    except (ConfigError, DataError) as error:
        sys.exit(f"error: {error}")
    frame, numbers = build(picked, options.seed), scores(picked)
    if len({kind_of(facts) for facts in picked.facts}) > 1:
        print("the vectors of one model contain its decision, the other's do not", file=sys.stderr)
    where = Storage(options.out or paths[0].parent)
    where.write("figure6_scores.csv", numbers.to_csv(index=False).encode())
    for row in numbers.to_dict("records"):
        print(f"{row['model']}: {line(row)}, n = {row['n']}")
    save(frame, draw(frame, numbers, picked), where, "figure6")


if __name__ == "__main__":
    main()
