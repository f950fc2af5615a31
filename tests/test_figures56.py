"""Figures 5 and 6 from hand-made files: attention by class, two spaces side by side, numbers."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import silhouette_score
from test_figures import overlap, row_of
from test_representations import facts

from analysis import figure5, figure6
from analysis.separation import (
    SHARE,
    SILHOUETTE,
    mean_of_classes,
    scores_of,
    shares,
    silhouettes,
)
from dfpl.fields import ConfigError
from dfpl.predictions import STATES
from dfpl.representations import Part, Representations, Shown, read, write
from dfpl.storage import Storage

ROWS = ["image specific", "shared", "tabular specific"]
NAN = np.nan


def strings(names: list[str]) -> np.ndarray:
    return np.array(names, dtype=object)


def half(rows: list[Any]) -> np.ndarray:
    return np.array(rows, dtype=np.float16)


@pytest.fixture(scope="module")
def attended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four samples of two groups and three classes. With the image alone, class a is sure of the
    first three (0.5 is not above 0.5), class b of the last, class c of none; the last sample has no
    table, so that nothing is known of it with both."""
    chances = np.array(
        [[0.9, 0.1, 0], [0.8, 0.1, 0.1], [0.6, 0.4, 0], [0.5, 0.51, 0]], dtype=np.float32
    )
    image = [[0.5, 0.5, 0.0], [0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [1.0, 0.0, 0.0]]
    attention = half(image)[:, None].repeat(3, axis=1)
    both = np.full((4, 3, 3), 0.25, dtype=np.float16)
    both[..., 2], both[3] = 0.5, NAN
    vectors = np.ones((4, 2), dtype=np.float32)
    gone = np.array([[1], [1], [1], [NAN]], dtype=np.float32)
    shown = {
        "image": Shown(chances, vectors, attention),
        "both": Shown(chances * gone, vectors * gone, both),
        "tabular": Shown(chances * gone, vectors * gone, both),
    }
    part = Part(strings(list("wxyz")), strings(["g", "g", "h", "h"]), np.array([0, 0, 1, 1]), shown)
    path = tmp_path_factory.mktemp("figure5") / "file.parquet"
    assert write(path, facts(class_names=["a", "b", "c"], rows=ROWS), [part]) == 4
    return path


# Figure 5


def test_attention_is_averaged_over_the_samples_that_are_sure_of_a_class(attended: Path) -> None:
    frame = figure5.build(read(attended, "image"))
    assert len(frame) == 9 and set(frame["state"]) == {"image"}
    row = row_of(frame, **{"class": "a", "representation": "image specific"})
    assert (row["n"], row["groups"], row["visible"]) == (3, 2, True)
    assert row["value"] == pytest.approx((0.5 + 0.75 + 0.25) / 3)
    # the resamples of two groups: g twice 0.625, both 0.5, h twice 0.25; centred on the mean 0.5
    assert row["low"] == pytest.approx(0.25, abs=0.05)
    assert row["high"] == pytest.approx(0.625, abs=0.05)
    row = row_of(frame, **{"class": "a", "representation": "shared"})
    assert row["value"] == pytest.approx(0.5)
    row = row_of(frame, **{"class": "a", "representation": "tabular specific"})
    assert (row["value"], row["visible"]) == (0.0, False)


def test_one_group_has_no_interval_and_no_sample_no_mean(attended: Path) -> None:
    frame = figure5.build(read(attended, "image"))
    row = row_of(frame, **{"class": "b", "representation": "image specific"})
    assert (row["n"], row["value"]) == (1, 1.0) and np.isnan([row["low"], row["high"]]).all()
    row = row_of(frame, **{"class": "c", "representation": "shared"})
    assert row["n"] == 0 and np.isnan([row["value"], row["low"], row["high"]]).all()


def test_a_sample_counts_in_the_states_that_it_can_be_in(attended: Path) -> None:
    frame = figure5.build(read(attended, "both"))
    assert frame.groupby("class")["n"].first().tolist() == [3, 0, 0]  # z lacks the table
    row = row_of(frame, **{"class": "a", "representation": "tabular specific"})
    assert (row["value"], row["visible"]) == (0.5, True)


def test_without_attention_there_is_no_figure_5(attended: Path) -> None:
    found = read(attended, "image")
    pooled = replace(found, attention=None, facts=facts(method="tip"))
    with pytest.raises(ConfigError, match="tip has no attention of each class"):
        figure5.build(pooled)


def test_a_state_that_no_sample_can_be_in_has_no_figure_5(tmp_path: Path) -> None:
    none = np.full((1, 2), NAN, dtype=np.float32)
    shown = Shown(none, none, np.full((1, 2, 3), NAN, dtype=np.float16))
    part = Part(strings(["w"]), strings(["g"]), np.array([0]), dict.fromkeys(STATES, shown))
    write(tmp_path / "file.parquet", facts(class_names=["a", "b"], rows=ROWS), [part])
    with pytest.raises(ConfigError, match="none of the 1 samples can be in state 'image'"):
        figure5.build(read(tmp_path / "file.parquet", "image"))


def texts(figure: Figure) -> list[str]:
    [axes, *_] = figure.axes
    return [text.get_text() for text in axes.texts]


def test_cells_hold_numbers_and_hidden_or_empty_ones_do_not(attended: Path) -> None:
    figure = figure5.draw(figure5.build(read(attended, "image")))
    assert texts(figure) == ["0.50", "0.50", "1.00", "0.00"]
    axes = figure.axes[0]
    assert [patch.get_hatch() for patch in axes.patches] == ["///", "///"]  # both cells of class c
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["a (n = 3)", "b (n = 1)", "c (n = 0)"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["image\nspecific", "shared"]


def many_classes() -> Figure:
    """60 classes with long names, n = 0 to 59."""
    cells = [
        {
            **{"dataset": "mimic", "split": "test", "method": "dfpl", "scenario": "both-50"},
            **{"state": "image", "class": f"{c} disorders of lipid metabolism", "n": c},
            **{"representation": f"shared {scale}", "visible": True, "value": c / 100 or NAN},
        }
        for c in range(60)
        for scale in ("global", "prototypes")
    ]
    return figure5.draw(pd.DataFrame(cells))


def test_of_many_classes_those_of_most_samples_are_drawn_and_it_says_so() -> None:
    figure = many_classes()
    assert len(texts(figure)) == 2 * figure5.MOST_CLASSES
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown[0] == "20 disorders of lipid metabolism (n = 20)" and len(shown) == 40
    title: Any = figure._suptitle  # pyright: ignore[reportAttributeAccessIssue]
    assert "the 40 of 60 classes with the largest n" in title.get_text()


def outside(figure: Figure) -> list[str]:
    """Titles, axes with their labels, that leave the canvas."""
    canvas: Any = figure.canvas
    canvas.draw()
    boxes = {str(axes.get_ylabel()): axes.get_tightbbox() for axes in figure.axes}
    boxes |= {text.get_text(): text.get_window_extent() for text in figure.texts}
    paper = figure.bbox
    return [
        name
        for name, box in boxes.items()
        if box is None or box.x0 < 0 or box.y0 < 0 or box.x1 > paper.x1 or box.y1 > paper.y1
    ]


def test_no_text_of_figure_5_is_cut_off(attended: Path) -> None:
    assert outside(figure5.draw(figure5.build(read(attended, "image")))) == []
    assert outside(many_classes()) == []


# The numbers of Figure 6


def test_silhouettes_by_hand_and_by_scikit_learn() -> None:
    """Apart: to its class 0, to the other 1: (1 - 0) / 1 = 1. Astray, y among class 0: to its
    class 1 and 0, so 1/2; to the other 0: (0 - 1/2) / (1/2) = -1."""
    apart = np.array([[1.0, 0], [2, 0], [0, 1], [0, 3]])
    np.testing.assert_allclose(silhouettes(apart, np.array([0, 0, 1, 1])), 1)
    astray = np.array([[1.0, 0], [0, 1], [0, 1], [0, 2], [0, 1]])
    assert silhouettes(astray, np.array([0, 0, 0, 1, 1]))[1] == pytest.approx(-1)
    rng = np.random.default_rng(0)
    vectors, of_class = rng.normal(size=(60, 5)), np.arange(60) % 3
    own = silhouette_score(vectors, of_class, metric="cosine")
    assert silhouettes(vectors, of_class).mean() == pytest.approx(own)


def test_neighbours_are_of_other_groups() -> None:
    """Three directions. The first sample's twin is of its group and does not count; of the other
    two, one is of its class."""
    vectors = np.array([[1.0, 0], [1, 0], [0, 1], [0.1, 1]])
    of_class, groups = np.array([0, 0, 0, 1]), strings(["g", "g", "h", "i"])
    found = shares(vectors, of_class, groups)
    np.testing.assert_allclose(found, [1 / 2, 1 / 2, 2 / 3, 0])
    assert shares(vectors, of_class, strings(["g"] * 4)).tolist() == [0, 0, 0, 0]


def test_only_the_nearest_ten_count() -> None:
    angle = np.concatenate([np.linspace(0, 0.1, 11), np.linspace(1, 1.5, 30)])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    of_class = (np.arange(41) >= 11).astype(int)
    groups = strings([str(i) for i in range(41)])
    assert shares(vectors, of_class, groups).tolist() == [1.0] * 41


def test_each_class_counts_alike_and_those_that_a_resample_lacks_do_not() -> None:
    values, of_class = np.array([1.0, 0.0, 0.5]), np.array([0, 0, 1])
    weights = np.array([[1.0, 1, 1], [3, 1, 0]])
    np.testing.assert_allclose(mean_of_classes(values, of_class, weights), [0.5, 0.75])


def test_the_difference_is_of_the_same_resamples() -> None:
    rng = np.random.default_rng(0)
    of_class = np.arange(90) % 3
    groups = strings([str(i // 2) for i in range(90)])
    loose = np.eye(3)[of_class] + rng.normal(size=(90, 3))
    frame: Any = scores_of(("one", "other"), (loose, loose.copy()), of_class, groups)
    gaps = frame[frame["model"] == "other minus one"]
    assert not gaps[["value", "low", "high"]].to_numpy().any()
    assert set(frame["n"]) == {90} and set(frame["groups"]) == {45}
    better = scores_of(("one", "other"), (loose, np.eye(3)[of_class]), of_class, groups)
    for measure in (SILHOUETTE, SHARE):
        assert row_of(better, measure=measure, model="other")["value"] == pytest.approx(1)
        row = row_of(better, measure=measure, model="other minus one")
        assert 0 < row["low"] < row["value"] < row["high"]


# Figure 6

N = 48


def save_space(path: Path, spread: float, **values: Any) -> Path:
    """48 samples of classes a (24), b (16), c (8), whose vectors lie around one point for each."""
    of_class = np.repeat([0, 1, 2], [24, 16, 8])
    rng = np.random.default_rng(7)
    vectors = 3 * np.eye(3, 6)[of_class] + spread * rng.normal(size=(N, 6))
    rows = values.get("rows", [])
    chances = np.eye(3, dtype=np.float32)[of_class]
    mixed = np.full((N, 3, len(rows)), 1 / 3, dtype=np.float16) if rows else None
    shown = {state: Shown(chances, vectors.astype(np.float32), mixed) for state in STATES}
    names = strings([f"s{i}" for i in range(N)])
    part = Part(names, names, of_class, shown)
    write(path, facts(**{"class_names": ["a", "b", "c"], **values}), [part])
    return path


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("figure6")
    return (
        save_space(folder / "a.parquet", 2.0, method="drfuse", rows=ROWS),
        save_space(folder / "b.parquet", 0.1, method="tip"),
    )


def both(spaces: tuple[Path, Path]) -> tuple[Representations, Representations]:
    return read(spaces[0], "both"), read(spaces[1], "both")


def test_two_models_show_the_same_samples_of_the_most_frequent_classes(spaces: Any) -> None:
    picked = figure6.pick(*both(spaces), "2", 0)
    assert picked.classes == ["a", "b"] and picked.num_found == 40
    frame = figure6.build(picked, 0)
    left, right = (frame[frame["model"] == title] for title in ("DrFuse", "TIP"))
    assert left["id"].tolist() == right["id"].tolist() == [f"s{i}" for i in range(40)]
    assert left["class"].tolist() == right["class"].tolist() == ["a"] * 24 + ["b"] * 16
    assert set(left["vector"]) == {"vector of the predicted class"}
    assert set(right["vector"]) == {"one vector for all classes"}
    assert np.isfinite(frame[["x", "y"]].to_numpy()).all()


def test_classes_may_be_named(spaces: Any) -> None:
    assert figure6.pick(*both(spaces), "c, a", 0).classes == ["a", "c"]
    with pytest.raises(ConfigError, match="no class 'd'"):
        figure6.pick(*both(spaces), "a,d", 0)
    for asked, problem in (("11", "at most 10, .* got 11"), ("1", "24 samples of 1 classes")):
        with pytest.raises(ConfigError, match=problem):
            figure6.pick(*both(spaces), asked, 0)


def test_the_same_seed_gives_the_same_plane(spaces: Any) -> None:
    picked = figure6.pick(*both(spaces), "3", 0)
    first, again = figure6.build(picked, 0), figure6.build(picked, 0)
    pd.testing.assert_frame_equal(first, again, check_exact=True)


def test_numbers_say_which_space_parts_the_classes(spaces: Any) -> None:
    numbers = figure6.scores(figure6.pick(*both(spaces), "3", 0))
    tight = row_of(numbers, measure=SHARE, model="TIP")
    assert tight["value"] == pytest.approx((1 + 1 + 7 / 10) / 3)  # c has but 7 others
    assert row_of(numbers, measure=SILHOUETTE, model="TIP minus DrFuse")["low"] > 0


def test_of_many_samples_some_are_drawn(spaces: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure6, "MOST_SAMPLES", 20)
    picked, again = (figure6.pick(*both(spaces), "3", 0) for _ in range(2))
    assert len(picked.ids) == 20 and picked.num_found == N
    assert picked.ids.tolist() == again.ids.tolist() == sorted(picked.ids, key=lambda s: int(s[1:]))
    assert set(figure6.pick(*both(spaces), "3", 1).ids) != set(picked.ids)
    assert "20 of the 48 samples" in figure6.told(picked, figure6.scores(picked))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"data_hash": "other"}, r"differ in data_hash \(h, other\)"),
        ({"split": "test"}, r"differ in split \(val, test\)"),
        ({"task": "multilabel"}, "has several classes"),
    ],
)
def test_other_samples_are_refused(spaces: Any, changed: dict[str, str], problem: str) -> None:
    a, b = both(spaces)
    if "task" in changed:
        a = replace(a, facts=a.facts.with_values(changed))
    b = replace(b, facts=b.facts.with_values(changed))
    with pytest.raises(ConfigError, match=problem):
        figure6.pick(a, b, "3", 0)


def test_a_method_beside_itself_is_told_by_its_run(spaces: Any) -> None:
    a, b = both(spaces)
    b = replace(b, facts=a.facts.with_values({"run_id": "s"}))
    assert figure6.pick(a, b, "3", 0).titles == ("A: DrFuse, r", "B: DrFuse, s")


def test_no_text_of_figure_6_is_cut_off_and_one_legend_names_the_classes(spaces: Any) -> None:
    a, b = both(spaces)
    long = [f"a class with a rather long name {c}" for c in "abc"]
    a, b = (replace(x, facts=x.facts.with_values({"class_names": long})) for x in (a, b))
    picked = figure6.pick(a, b, "3", 0)
    figure = figure6.draw(figure6.build(picked, 0), figure6.scores(picked), picked)
    assert overlap(figure) == [] and outside(figure) == []
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{name} (n = {n})" for name, n in zip(long, (24, 16, 8), strict=True)
    ]


def test_classes_differ_in_colour_and_in_marker() -> None:
    colours, markers = zip(*figure6.MARKS, strict=True)
    assert len(set(colours)) == len(set(markers)) == len(figure6.MARKS) == 10


# The commands


def command(module: Any, *arguments: object) -> Callable[[pytest.MonkeyPatch], None]:
    def run(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["figure", *map(str, arguments)])
        module.main()

    return run


def test_figure_5_writes_its_files(
    attended: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(figure5, attended)(monkeypatch)
    svg = (attended.parent / "figure5.svg").read_text()
    for text in ("a (n = 3)", "mean attention weight", "representation", "table absent"):
        assert text in svg
    assert (attended.parent / "figure5.png").read_bytes().startswith(b"\x89PNG")
    frame = figure5.build(read(attended, "image"))
    found = pd.read_csv(attended.parent / "figure5.csv")
    assert found["value"].tolist() == pytest.approx(frame["value"].tolist(), nan_ok=True)
    assert f"wrote {Storage(attended.parent)}/figure5.svg" in capsys.readouterr().out


def test_figure_6_writes_its_files_and_tells_its_numbers(
    spaces: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(figure6, *spaces, "--out", tmp_path)(monkeypatch)
    svg = (tmp_path / "figure6.svg").read_text()
    for text in ("DrFuse", "TIP", "t-SNE axis 1 (no unit)", "true class", "chance 33.3 %"):
        assert text in svg
    assert len(pd.read_csv(tmp_path / "figure6.csv")) == 2 * N
    assert len(pd.read_csv(tmp_path / "figure6_scores.csv")) == 6
    out, errors = capsys.readouterr()
    assert "TIP minus DrFuse: silhouette 0." in out and "n = 48" in out
    assert "one model contain its decision" in errors


def test_what_is_no_such_file_ends_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in (command(figure5, tmp_path / "x"), command(figure6, tmp_path / "x", tmp_path / "y")):
        with pytest.raises(SystemExit, match=r"error: .* holds no representations"):
            run(monkeypatch)
