"""The study of the open choices and its table, from hand-made records."""

from dataclasses import replace
from pathlib import Path

import pytest
from samples import make_packed, make_run
from test_confirm import leave

from analysis.open_choices import build, render
from dfpl.study.records import RecordStore
from studies.open_choices import CHANGES, LITERAL, runs


def test_the_study_changes_one_choice_at_a_time() -> None:
    found = runs(make_run(make_packed()))
    assert len({run.run_id for run in found}) == len(found) == 8
    assert [str(run.scenario) for run in found] == ["both-50"] * 6 + ["image-70"] * 2
    literal = found[0].to_dict()["method"]
    assert all(literal[name.removeprefix("method.")] == value for name, value in LITERAL.items())
    for run in found[1:6]:
        values = run.to_dict()["method"]
        assert sum(values[name] != literal[name] for name in values) == 1
    assert len(CHANGES) == 6


def test_each_choice_is_compared_with_the_first_config(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    first = make_run(make_packed())
    other = first.with_values({"method.prototype_norm": "l2"})
    for trial, (run, seed, right) in enumerate(
        [(first, 0, 0.5), (first, 1, 0.6), (other, 0, 0.6), (other, 1, 0.9)]
    ):
        run = run.with_values({"seed": seed})
        leave(store, run, value=right, right=right)
        record = store.read(run.run_id)
        assert record is not None
        rows = [{"train/prototype_cosine": 0.9}, {"train/prototype_cosine": 0.1 + seed / 10}]
        found = store.predictions(run.run_id)
        store.save(replace(record, trial=trial), rows, found)
    frame = build(store)
    assert frame["choice"].tolist() == ["literal form"] * 2 + ["method.prototype_norm = l2"] * 2
    row = frame.iloc[3]
    assert row["metric"] == "accuracy" and row["seeds"] == 2 and row["n"] == 40
    assert row["score"].value == pytest.approx(0.75)
    assert row["difference"].difference == pytest.approx(0.2)
    assert row["by seed"] == pytest.approx([0.1, 0.3])
    assert row["cosine"] == pytest.approx(0.15)  # of the last epoch, mean over seeds
    text = render(frame)
    assert "| method.prototype_norm = l2 | accuracy | 75.0 [" in text
    assert "+10.0, +30.0 | 0.15 |" in text
