"""Two by two: tests of pairs against exact ones, and the tables made of hand-made records."""

import csv
import io
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from test_ablations import leave_study
from test_table1 import Cells, fail, run_of, save

from analysis import entries as listed
from analysis.pairs import build, main, render
from analysis.pairs_table import tables
from analysis.statistics import mcnemar_p, pooled_p, signed_rank_p
from dfpl.config import RunConfig
from dfpl.data.scenario import NINE, Scenario
from dfpl.fields import ConfigError
from dfpl.predictions import STATES, Predictions
from dfpl.study.records import RecordStore

N = 40
NAMES = np.array([f"s{i:02d}" for i in range(N)], dtype=object)
PAIRS = np.array([f"g{i // 2:02d}" for i in range(N)], dtype=object)
"""Groups of two samples."""


def keep(store: RecordStore, run: RunConfig, right: Any, groups: Any = NAMES) -> None:
    """A finished run that is right in these of 40 test rows, by state or in each of them; in a
    table (40, L) in these labels."""
    of_state: Any = right if isinstance(right, dict) else {state: right for state in STATES}
    several = next(iter(of_state.values())).ndim == 2
    truth = np.arange(N) % 2
    if several:
        label: Any = np.zeros((N, 3), np.float32)
        logits = {s: np.where(own, -1, 1).astype(np.float32) for s, own in of_state.items()}
    else:
        label = truth
        answers = {s: np.where(own, truth, 1 - truth) for s, own in of_state.items()}
        logits = {s: np.eye(2, dtype=np.float32)[own] for s, own in answers.items()}
    save(store, run, 0.5)
    record = store.read(run.run_id)
    assert record is not None
    found = Predictions(
        ids=NAMES,
        groups=groups,
        split=np.array(["test"] * N, dtype=object),
        label=label,
        present=np.ones((N, 2), dtype=bool),
        logits=logits,
        class_names=("a", "b", "c") if several else ("a", "b"),
        task="multilabel" if several else "multiclass",
    )
    store.save(record, [], found)


def rows(start: int, stop: int) -> Any:
    return (np.arange(N) >= start) & (np.arange(N) < stop)


def row_of(frame: Any, first: str, second: str, scenario: str = "both-50") -> dict[str, Any]:
    keys = {"first": first, "second": second, "scenario": scenario}
    [row] = [r for r in frame.to_dict("records") if all(r[k] == v for k, v in keys.items())]
    return row


# The tests of two


@pytest.mark.parametrize(("b", "c"), [(0, 0), (3, 0), (12, 3), (10, 14)])
def test_few_discordant_samples_are_tested_exactly(b: int, c: int) -> None:
    exact = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_p(b, c) == pytest.approx(exact) == mcnemar_p(c, b)


def test_many_discordant_samples_by_chi_squared_with_continuity_correction() -> None:
    # (|10 - 15| - 1)^2 / 25 = 0.64; (|60 - 40| - 1)^2 / 100 = 3.61: p = 0.0574
    assert mcnemar_p(10, 15) == pytest.approx(stats.chi2.sf(0.64, 1))
    assert mcnemar_p(60, 40) == pytest.approx(0.0574, abs=1e-4)


def test_the_p_value_of_several_seeds_is_twice_their_median() -> None:
    assert pooled_p([0.03]) == 0.03
    assert pooled_p([0.5, 0.01, 0.02]) == pytest.approx(0.04)
    assert pooled_p([0.2, 0.4]) == pytest.approx(0.6) and pooled_p([0.7, 0.8]) == 1.0


def test_twice_the_median_keeps_the_level_where_seeds_share_their_samples() -> None:
    rng = np.random.default_rng(0)
    for shared in (0.0, 0.7, 0.95):
        own, common = rng.normal(size=(4000, 5)), rng.normal(size=(4000, 1))
        z = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
        p = 2 * stats.norm.sf(np.abs(z))
        assert np.mean([pooled_p(line.tolist()) < 0.05 for line in p]) < 0.06


def enumerated(differences: list[float]) -> float:
    """Wilcoxon's p-value from all signs of the ranks, of which ties share the mean."""
    values = np.array([d for d in differences if d])
    ranks = stats.rankdata(np.abs(values))
    drawn = [np.dot(signs, ranks) for signs in product((0, 1), repeat=len(values))]
    found = ranks[values > 0].sum()
    sides = np.mean(np.array(drawn) <= found + 1e-9), np.mean(np.array(drawn) >= found - 1e-9)
    return min(1.0, 2 * float(min(sides)))


@pytest.mark.parametrize(
    "differences",
    [
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        [0.1, 0.1, -0.1, 0.2, 0.3, 0.3, 0.0],
        [0.1, 0.2, -0.3, 0.4, 0.5, 0.6, 0.7, -0.15, 0.9],
    ],
)
def test_the_signed_rank_test_is_exact_also_with_ties(differences: list[float]) -> None:
    assert signed_rank_p(differences) == pytest.approx(enumerated(differences))


def test_the_signed_rank_test_of_few_and_of_many_scenarios() -> None:
    assert np.isnan(signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert signed_rank_p([0.0] * 6) == 1.0
    assert signed_rank_p([0.01 * k for k in range(1, 15)]) == pytest.approx(2 / 2**14)


# The table


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """both-50, two seeds. DFPL is right in rows 0-29 and 0-35, DrFuse in 10-34 and 0-19, TIP, with
    seed 0 alone, in DFPL's; STiL failed."""
    store = RecordStore(tmp_path_factory.mktemp("pairs"))
    keep(store, run_of("dfpl", seed=0), rows(0, 30), PAIRS)
    keep(store, run_of("dfpl", seed=1), rows(0, 36), PAIRS)
    keep(store, run_of("drfuse", seed=0), rows(10, 35), PAIRS)
    keep(store, run_of("drfuse", seed=1), rows(0, 20), PAIRS)
    keep(store, run_of("tip", seed=0), rows(0, 30), PAIRS)
    fail(store, run_of("stil"), "term task is nan")
    return store


@pytest.fixture(scope="module")
def frame(store: RecordStore) -> Any:
    """The table, of whose columns pyright knows little."""
    return build(store)


def test_all_pairs_are_there_in_the_order_of_the_paper(frame: Any) -> None:
    assert list(zip(frame["first"], frame["second"], strict=True)) == [
        *(("tip", "stil"), ("tip", "drfuse"), ("tip", "dfpl")),
        *(("stil", "drfuse"), ("stil", "dfpl"), ("drfuse", "dfpl")),
    ]


def test_a_difference_is_the_mean_over_the_seeds_that_both_have(frame: Any) -> None:
    row = row_of(frame, "drfuse", "dfpl")
    # of 40: 25 - 30 and 20 - 36
    assert (row["first_value"], row["second_value"]) == pytest.approx((45 / 80, 66 / 80))
    assert row["difference"] == pytest.approx(-21 / 80) and row["seeds"] == 2
    # by pairs of rows, half the sum over seeds: of 20 pairs 5 have -0.5 - 0, 5 have 0, ...
    gaps = (rows(10, 35).astype(float) - rows(0, 30) + rows(0, 20) - rows(0, 36)) / 2
    spread = gaps.reshape(20, 2).mean(axis=1).std() / np.sqrt(20)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert row["p"] == pytest.approx(2 * stats.norm.sf(21 / 80 / spread), rel=0.7)
    assert (row["n"], row["groups"]) == (40, 20)
    same = row_of(frame, "tip", "dfpl")  # seed 0 alone, the same answers
    assert (same["difference"], same["p"], same["p_mcnemar"], same["seeds"]) == (0.0, 1.0, 1.0, 1)


def test_mcnemar_counts_by_seed_and_pools(frame: Any) -> None:
    row = row_of(frame, "drfuse", "dfpl")
    # seed 0: rows 30-34 against 0-9; seed 1: none against 20-35
    assert (row["only_first"], row["only_second"]) == (2.5, 13.0)
    of_seeds = [float(stats.binomtest(k, n).pvalue) for k, n in ((5, 15), (0, 16))]
    assert row["p_mcnemar"] == pytest.approx(sum(of_seeds))  # twice the median of two
    row = row_of(frame, "tip", "drfuse")
    assert row["p_mcnemar"] == pytest.approx(of_seeds[0])


def test_holm_is_over_all_pairs_that_were_compared(frame: Any) -> None:
    assert frame["p"].notna().sum() == 3  # without STiL
    p = sorted(frame["p"].dropna())
    holm = sorted(frame["p_holm"].dropna())
    assert holm[0] == pytest.approx(3 * p[0]) and holm[1] == pytest.approx(min(1, 2 * p[1]))
    small = row_of(frame, "tip", "drfuse")  # a little below that of drfuse and dfpl
    assert small["p_mcnemar_holm"] == pytest.approx(3 * small["p_mcnemar"])
    assert frame["p_wilcoxon"].isna().all()


def test_a_pair_without_a_common_seed_says_why(frame: Any, tmp_path: Path) -> None:
    row = row_of(frame, "tip", "stil")
    assert np.isnan(row["difference"]) and row["seeds"] == 0
    assert row["reason"] == "stil failed: term task is nan"
    store = RecordStore(tmp_path)
    save(store, run_of("dfpl", seed=0), 0.5)
    save(store, run_of("tip", seed=1), 0.5)
    assert build(store)["reason"].tolist() == ["no seed in common"]


def test_mcnemar_is_of_the_answers_under_the_masks_of_the_runs(tmp_path: Path) -> None:
    store, everywhere = RecordStore(tmp_path), np.ones(N, dtype=bool)
    keep(store, run_of("dfpl"), everywhere)
    only = {"both": everywhere, "image": ~everywhere, "tabular": everywhere}
    keep(store, run_of("drfuse"), only)
    row = row_of(build(store), "drfuse", "dfpl")
    hidden = ~Scenario.parse("both-50").draw(NAMES.tolist())[:, 1]  # the table is missing
    assert (row["only_first"], row["only_second"]) == (0.0, hidden.sum()) == (0.0, 10.0)
    assert row["difference"] == pytest.approx(-0.25)


def test_over_six_scenarios_there_is_a_signed_rank_test(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for place, scenario in enumerate(NINE[:6]):
        save(store, run_of("dfpl", str(scenario)), 0.8)
        save(store, run_of("drfuse", str(scenario)), 0.7 - 0.05 * place)
    save(store, run_of("dfpl", "both-50"), 0.9)
    frame: Any = build(store)
    row = row_of(frame, "drfuse", "dfpl", "all")
    # 0.1, 0.15, ..., 0.35: all of one sign, 2 of 64
    assert row["difference"] == pytest.approx(-0.225) and row["scenarios"] == 6
    assert row["p_wilcoxon"] == row["p_wilcoxon_holm"] == pytest.approx(1 / 32)
    assert row["low"] < -0.225 < row["high"] < 0
    # Holm: over the seven pairs of scenarios by themselves, one of which has no DrFuse
    each = frame[frame["scenario"] != "all"]
    assert len(each) == 7 and each["p_holm"].min() == pytest.approx(6 * each["p"].min())
    first, *_, whole = tables(frame)
    assert first.rows[0][-1].text == "1"
    assert [cell.text for cell in whole.rows[0]][-2:] == ["0.031", "6"]
    only: Any = build(store, "balanced_accuracy", str(NINE[0]))
    assert only["scenario"].tolist() == [str(NINE[0])]
    assert row_of(only, "drfuse", "dfpl", str(NINE[0]))["difference"] == pytest.approx(-0.1)


def test_several_labels_have_no_mcnemar_test_and_the_table_says_why(tmp_path: Path) -> None:
    store, right = RecordStore(tmp_path), np.ones((N, 3), dtype=bool)
    keep(store, run_of("dfpl"), right)
    keep(store, run_of("drfuse"), right & (np.arange(3) < 2))
    frame: Any = build(store)
    row = row_of(frame, "drfuse", "dfpl")
    assert row["difference"] == pytest.approx(-1 / 3) and np.isnan(row["p_mcnemar"])
    [table] = tables(frame)
    assert "McNemar's p" not in table.header and table.notes[1].startswith("No McNemar test")


# Configs of one method


def test_configs_of_one_method_are_named_by_what_they_change(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    base = run_of("dfpl")
    for seed in (0, 1):
        save(store, run_of("dfpl", seed=seed, alpha=2.0, scale="global"), 0.5)
        save(store, run_of("dfpl", seed=seed, alpha=2.0), 0.5)
        save(store, run_of("dfpl", seed=seed), 0.5)
    fail(store, run_of("dfpl", alpha=9.0), "nothing")
    leave_study(store, base)
    frame: Any = build(store)
    names = ["base run", "alpha = 2.0", "alpha = 2.0, scale = global"]
    assert list(dict.fromkeys([*frame["first"], *frame["second"]])) == names
    assert frame["seeds"].tolist() == [2, 2, 2]
    legend, table = tables(frame)
    assert [[cell.text for cell in row] for row in legend.rows] == [
        [f"config {number}", name] for number, name in enumerate(names, 1)
    ]
    assert [cell.text for cell in table.rows[2][:2]] == ["config 2", "config 3"]


def test_without_a_study_configs_are_named_by_all_in_which_they_differ(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for alpha in (0.5, 2.0):
        save(store, run_of("dfpl", alpha=alpha), 0.5)
    frame: Any = build(store)
    assert list(zip(frame["first"], frame["second"], strict=True)) == [
        ("alpha = 0.5", "alpha = 2.0")
    ]


def test_more_configs_than_can_be_compared_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "MOST", 2)
    store = RecordStore(tmp_path)
    for alpha in (0.5, 1.5, 2.0):
        save(store, run_of("dfpl", alpha=alpha), 0.5)
    with pytest.raises(ConfigError, match="has 3 configs, 2 can be compared"):
        build(store)


def test_nothing_to_compare_is_refused(store: RecordStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trained in image-30; there are both-50"):
        build(store, scenario="image-30")
    with pytest.raises(ConfigError, match="no records below"):
        build(RecordStore(tmp_path))
    alone = RecordStore(tmp_path)
    save(alone, run_of("dfpl"), 0.5)
    with pytest.raises(ConfigError, match=r"nothing to compare below .*: base run"):
        build(alone)


# Formats


def test_the_printed_table_by_hand(frame: Any) -> None:
    [table] = tables(frame)
    assert table.title.startswith("Two by two in both-50: made_up, accuracy")
    assert [cell.text for cell in table.rows[0][:6]] == [
        *("TIP", "STiL", "", "", "stil failed: term task is nan", ""),
    ]
    drfuse = [cell.text for cell in table.rows[-1]]
    assert drfuse[:4] == ["DrFuse", "DFPL", "56.2", "82.5"] and drfuse[4].startswith("-26.2 [-")
    assert drfuse[6] == "2.5; 13" and drfuse[-1] == "2" and table.rows[-1][4].best
    assert (
        "n = 40 test samples of 20 groups. p-values after Holm for 3 comparisons" in table.notes[0]
    )
    assert "trust the bootstrap" in table.notes[1] and "not balanced" not in table.notes[1]


def test_it_says_that_mcnemar_is_about_accuracy_and_independent_samples(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for name in ("dfpl", "tip"):
        save(store, run_of(name), 0.5)
    [table] = tables(build(store, "auroc"))
    assert "It is about accuracy, not auroc." in table.notes[1]
    assert "trust the bootstrap" not in table.notes[1]  # each sample is a group


def test_every_format_holds_every_pair(frame: Any) -> None:
    found = list(csv.DictReader(io.StringIO(render(frame, "csv"))))
    assert [row["first"] for row in found] == frame["first"].tolist()
    assert float(found[-1]["difference"]) == pytest.approx(-21 / 80)
    assert render(frame, "markdown").count("\n| ") == 1 + 1 + 6
    assert [len(row) for row in Cells(render(frame, "html")).rows] == [9] * 7
    assert render(frame, "latex").count(" & ") == 8 * 7


@pytest.mark.parametrize("out", [True, False])
def test_the_command_prints_or_writes(
    out: bool,
    store: RecordStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    frame: Any,
) -> None:
    place = ["--out", str(tmp_path / "p.md")] if out else []
    monkeypatch.setattr(sys, "argv", ["pairs", str(store.root), "--scenario", "both-50", *place])
    main()
    shown = (tmp_path / "p.md").read_text() if out else capsys.readouterr().out
    assert shown == render(frame, "markdown")


def test_the_command_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pairs", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: no records below"):
        main()
