"""What scores vary with: the split by hand and against whole experiments; the smallest difference
that was there to be shown."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_pairs import NAMES, PAIRS, N, keep, rows
from test_table1 import Cells, fail, run_of, save

from analysis.precision import Precision, build, deviation_interval, main, parts_of
from analysis.precision_table import render, tables
from dfpl.fields import ConfigError
from dfpl.study.records import RecordStore

# The split


def test_the_parts_by_hand() -> None:
    # both seeds lose and win the same: no interaction
    expected = np.array([[0.5, 0.4, 0.6], [0.7, 0.6, 0.8]])
    found = parts_of(expected, np.array([0.01, 0.03]))
    assert found == pytest.approx((0.02, 0.02, 0.02))
    # one loses 0.2 less: means 0.5 and 0.6 vary by 0.005; deviations -0.2, 0 and 0.2, 0: I = 0.04,
    # of which half is taken off 0.005
    expected = np.array([[0.5, 0.3, 0.6], [0.7, 0.7, 0.6]])
    assert parts_of(expected, np.zeros(2)) == pytest.approx((0.0, 0.02, 0.0))
    # means vary by 0.02; deviations -0.1, -0.05 and 0.1, 0.05: I = 2 x 0.00125, half of it off
    expected = np.array([[0.5, 0.4, 0.65], [0.7, 0.6, 0.75]])
    assert parts_of(expected, np.zeros(2))[2] == pytest.approx(0.02 - 0.00125)


def test_one_seed_tells_nothing_of_seeds() -> None:
    masks, seeds, samples = parts_of(np.array([[0.5, 0.4, 0.6]]), np.array([0.01]))
    assert (masks, samples) == pytest.approx((0.01, 0.02)) and np.isnan(seeds)


def test_resamples_without_a_score_do_not_count() -> None:
    expected = np.array([[0.5, 0.4, np.nan, 0.6], [0.7, 0.6, 0.9, 0.8]])
    assert parts_of(expected, np.zeros(2))[2] == pytest.approx(0.02)
    assert np.isnan(parts_of(expected[:, :3], np.zeros(2))[2])


def answers(
    rng: np.random.Generator, seeds: int, groups: int = 60
) -> tuple[np.ndarray, np.ndarray]:
    """What models of several seeds have right in a fresh test set of pairs of samples: with both
    modalities, and with the image alone. Seeds differ in all samples, and by sample."""
    hard = np.repeat(rng.normal(size=groups), 2) + 0.5 * rng.normal(size=2 * groups)
    model = 0.05 * rng.normal(size=(seeds, 1))
    sure = hard + model + 1.2 * rng.normal(size=(seeds, 2 * groups))
    return sure > -0.5, sure > 0.5


def test_the_parts_add_up_to_the_variance_of_whole_experiments() -> None:
    """Fresh samples, seeds and masks each time, half of the tables missing, measured once."""
    rng = np.random.default_rng(0)
    once = []
    for _ in range(6000):
        both, image = answers(rng, 1)
        hidden = rng.permutation(both.shape[1]) < both.shape[1] // 2
        once.append(np.where(hidden, image, both).mean())
    found, uncorrected = [], []
    for _ in range(600):
        both, image = answers(rng, 3)
        n, share = both.shape[1], (both + image.astype(float)) / 2
        by_group = share.reshape(3, -1, 2).mean(axis=2)
        drawn = rng.integers(0, n // 2, (150, n // 2))
        resampled = by_group[:, drawn].mean(axis=2)
        expected = np.concatenate([share.mean(axis=1, keepdims=True), resampled], axis=1)
        # of n / 2 rows drawn without replacement:  (n / 2) (1 - 1 / 2) S^2 / n^2
        masks = (image.astype(float) - both).var(axis=1, ddof=1) / (4 * n)
        found.append(parts_of(expected, masks))
        uncorrected.append(resampled.mean(axis=0).var(ddof=1))
    masks, seeds, samples = np.mean(found, axis=0)
    assert masks + seeds + samples == pytest.approx(np.var(once), rel=0.07)
    # the correction is not idle: without it the sum is too large
    assert masks + seeds + np.mean(uncorrected) > 1.07 * np.var(once)


def test_the_interval_of_a_standard_deviation_by_hand() -> None:
    # chi squared of 2 degrees: 7.3778 and 0.050636
    low, high = deviation_interval(0.01, 2)
    assert (low, high) == pytest.approx((0.1 * 0.52066, 0.1 * 6.2847), rel=1e-4)
    assert np.isnan(deviation_interval(0.01, 0)).all()
    assert np.isnan(deviation_interval(np.nan, 5)).all()
    assert deviation_interval(0.0, 5) == (0.0, 0.0)


# The tables


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """tabular-50, pairs of samples. DFPL: with both right everywhere, with the image alone wrong
    in ten rows; the second seed wrong in four more throughout. DrFuse, one seed: right in 30 rows
    whatever is missing. STiL failed."""
    store, all_right = RecordStore(tmp_path_factory.mktemp("precision")), rows(0, N)
    for seed, right in ((0, all_right), (1, rows(0, 36))):
        of_state = {"both": right, "image": right & rows(10, N), "tabular": right}
        keep(store, run_of("dfpl", "tabular-50", seed), of_state, PAIRS)
    keep(store, run_of("drfuse", "tabular-50"), rows(0, 30), PAIRS)
    fail(store, run_of("stil", "tabular-50"), "term task is nan")
    return store


@pytest.fixture(scope="module")
def found(store: RecordStore) -> Precision:
    return build(store)


def part(found: Precision, name: str) -> dict[str, Any]:
    [row] = [row for row in found.parts.to_dict("records") if row["entry"] == name]
    return row


def smallest(found: Precision, way: str) -> dict[str, Any]:
    [row] = [row for row in found.smallest.to_dict("records") if row["way"] == way]
    return row


def test_entries_with_runs_are_there_in_the_order_of_the_paper(found: Precision) -> None:
    assert found.parts["entry"].tolist() == ["drfuse", "dfpl"]
    assert found.parts["num_seeds"].tolist() == [1, 2]
    assert part(found, "dfpl")["n"] == 40 and part(found, "dfpl")["groups"] == 20


def test_masks_vary_as_drawing_without_replacement_does(found: Precision) -> None:
    row = part(found, "dfpl")
    # 20 of 40 tables are missing, of which 10 cost an answer: S^2 = 40 / 39 x 1 / 4 x 3 / 4
    wanted = (20 * 0.5 * 40 / 39 * 3 / 16 / 40**2) ** 0.5
    assert row["masks"] == pytest.approx(wanted, rel=0.1)
    assert row["masks_low"] < wanted < row["masks_high"]
    assert row["masks_high"] / row["masks_low"] == pytest.approx(1.22, abs=0.02)  # 199 degrees
    assert part(found, "drfuse")["masks"] == pytest.approx(0.0, abs=1e-12)


def test_seeds_vary_by_what_is_expected_over_masks(found: Precision) -> None:
    row = part(found, "dfpl")
    # 40 - 5 and 36 - 5 of 40
    assert row["value"] == pytest.approx(33 / 40)
    assert row["seeds"] == pytest.approx(0.1 / 2**0.5)
    assert np.isnan(part(found, "drfuse")["seeds"])


def test_samples_vary_by_their_groups(found: Precision) -> None:
    # 15 of 20 pairs are right: sqrt(3 / 4 x 1 / 4 / 20), of 1000 resamples
    row = part(found, "drfuse")
    assert row["samples"] == pytest.approx((3 / 16 / 20) ** 0.5, rel=0.06)
    assert row["of_mean"] == row["samples"] and np.isnan(row["once"])
    # DFPL: means over seeds of a pair are 1/2 (5 of them), 1 (13), 1/2 (2 of them): 0.825;
    # apart from it, seed by seed, 0 (18) and 1/2 (2): I = 2 x (1/2)^2 x 0.1 x 0.9 / 20
    pairs = np.array([0.5] * 5 + [1.0] * 13 + [0.5] * 2)
    variance = pairs.var() / 20 - 2 * 0.25 * 0.09 / 20 / 2
    row = part(found, "dfpl")
    assert row["samples"] == pytest.approx(variance**0.5, rel=0.1)
    parts = [row[name] ** 2 for name in ("masks", "seeds", "samples")]
    assert row["once"] == pytest.approx(sum(parts) ** 0.5)
    assert row["of_mean"] == pytest.approx((parts[1] / 2 + parts[2]) ** 0.5)
    shares = [row[f"{name}_share"] for name in ("masks", "seeds", "samples")]
    assert shares == pytest.approx([own / sum(parts) for own in parts])


def test_the_smallest_difference_as_assumed_and_as_seen(found: Precision) -> None:
    row = smallest(found, "assumed")
    assert row["disagreement"] == 0.05
    # 1.96^2 / 40: two answers cannot be significant; by groups 1.96^2 / 20
    ends = row["significant_low"], row["significant_high"]
    assert ends == pytest.approx((3.8415 / 40, 3.8415 / 20), rel=1e-4)
    row = smallest(found, "observed")
    # under the masks: rows 30-39, and those of 0-9 without table
    assert 10 / 40 <= row["disagreement"] <= 20 / 40
    assert row["significant_low"] == pytest.approx(
        1.96 * (row["disagreement"] / 40) ** 0.5, rel=1e-4
    )
    assert row["significant_high"] == pytest.approx(2**0.5 * row["significant_low"])
    row = smallest(found, "bootstrap")
    # seed 0: of a pair DFPL has -1/2 (5 pairs), 0 (10) or 1 (5) more
    spread = (np.array([-0.5] * 5 + [0.0] * 10 + [1.0] * 5).var() / 20) ** 0.5
    assert row["significant_low"] == pytest.approx(1.96 * spread, rel=0.06)
    assert row["found_low"] == pytest.approx(2.8016 * spread, rel=0.06)


def test_a_method_alone_has_the_assumed_difference(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    save(store, run_of("dfpl"), 0.5)
    assert build(store).smallest["way"].tolist() == ["assumed"]


def test_methods_that_always_agree_show_no_spread(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for name in ("dfpl", "tip"):
        save(store, run_of(name), 0.5)
    assert build(store).smallest["way"].tolist() == ["assumed"]


def test_several_labels_are_told_by_label(tmp_path: Path) -> None:
    store, right = RecordStore(tmp_path), np.ones((N, 3), dtype=bool)
    keep(store, run_of("dfpl"), right, NAMES)
    keep(store, run_of("drfuse"), right & (np.arange(3) < 2), NAMES)
    found = build(store)
    assert smallest(found, "observed")["disagreement"] == pytest.approx(1 / 3)
    assert tables(*found)[1].rows[0][2].text == "accuracy of a label"


def test_the_printed_tables_by_hand(found: Precision) -> None:
    parts, shown = tables(*found)
    drfuse, dfpl = ([cell.text for cell in row] for row in parts.rows)
    assert drfuse[:6] == [
        *("tabular-50", "DrFuse", "75.0", "", "0.00 [0.00, 0.00]", "cannot be told of one seed"),
    ]
    assert dfpl[1:3] == ["DFPL", "82.5"] and dfpl[5] == "7.07 [3.15, 225.64]"
    assert parts.rows[1][5].beside.endswith("%") and parts.rows[1][7].beside == " (2)"
    assert "200 draws; n = 40 test samples of 20 groups" in parts.notes[0]
    assert [row[1].text.partition(",")[0] for row in shown.rows] == [
        "5.0 % of the answers differ",
        f"{100 * smallest(found, 'observed')['disagreement']:.1f} % of the answers differ",
        "paired bootstrap over groups",
    ]
    assert shown.rows[0][3].text == "9.60 to 19.21"


def test_configs_have_a_legend(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for alpha in (0.5, 2.0):
        save(store, run_of("dfpl", alpha=alpha), 0.5)
    legend, parts, _ = tables(*build(store))
    assert [cell.text for cell in legend.rows[1]] == ["config 2", "alpha = 2.0"]
    assert parts.rows[1][1].text == "config 2"


def test_every_format_holds_both_tables(found: Precision) -> None:
    lines = list(csv.DictReader(io.StringIO(render(*found, "csv"))))
    assert [line["entry"] for line in lines] == ["drfuse", "dfpl", "", "", ""]
    assert [line["way"] for line in lines][2:] == ["assumed", "observed", "bootstrap"]
    assert render(*found, "markdown").count("\n| ") == (2 + 2) + (2 + 3)
    cells = Cells(render(*found, "html")).rows
    assert [len(row) for row in cells] == [8] * 3 + [5] * 4
    assert render(*found, "latex").count(" & ") == 7 * 3 + 4 * 4


def test_without_a_complete_run_it_is_refused(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    fail(store, run_of("dfpl"), "nothing")
    with pytest.raises(ConfigError, match="no complete run below"):
        build(store)


@pytest.mark.parametrize("out", [True, False])
def test_the_command_prints_or_writes(
    out: bool,
    store: RecordStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: Precision,
) -> None:
    place = ["--out", str(tmp_path / "p.md")] if out else []
    monkeypatch.setattr(sys, "argv", ["precision", str(store.root), *place])
    main()
    shown = (tmp_path / "p.md").read_text() if out else capsys.readouterr().out
    assert shown == render(*found, "markdown")


def test_the_command_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["precision", str(tmp_path), "--scenario", "both-50"])
    with pytest.raises(SystemExit, match="error: no records below"):
        main()
