"""The comparison of a best config with the paper's, from hand-made records."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from samples import make_packed, make_run

from analysis.confirm import build, render
from dfpl.config import RunConfig
from dfpl.predictions import Predictions
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Suggestion


def leave(store: RecordStore, run: RunConfig, value: float, right: float) -> None:
    """A finished run whose test predictions are right in a share of the rows, in every state."""
    truth = np.arange(40) % 2
    wrong = np.arange(40) >= 40 * right
    logits = np.eye(2, dtype=np.float32)[np.where(wrong, 1 - truth, truth)]
    found = Predictions(
        ids=np.array([f"s{i}" for i in range(40)], dtype=object),
        groups=np.array([f"s{i}" for i in range(40)], dtype=object),
        split=np.array(["test"] * 40, dtype=object),
        label=truth,
        present=np.ones((40, 2), dtype=bool),
        logits={state: logits for state in ("both", "image", "tabular")},
        class_names=("a", "b"),
        task="multiclass",
    )
    record = Record(
        run_id=run.run_id,
        study="s",
        search="both-50",
        trial=0,
        scenario="both-50",
        state="complete",
        value=value,
        config=run.to_dict(),
    )
    store.save(record, [], found)
    assert asdict(record)["state"] == "complete"


def test_means_over_seeds_and_their_paired_difference(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    paper = make_run(make_packed())
    tuned = paper.with_values({"method.alpha": 0.5})
    for seed, right in ((0, 0.5), (1, 0.6)):
        leave(store, paper.with_values({"seed": seed}), 0.4, right)
        leave(store, tuned.with_values({"seed": seed}), 0.7, right + 0.2)
    store.root.write_json("study.json", {"objective": {"kind": "each"}})
    for number, run in enumerate((paper, tuned)):
        Suggestion(
            number=number, search="both-50", point={}, blocks=["both-50/0"], run_ids=[run.run_id]
        ).write(store.root)
    frame = build(store)
    assert len(frame) == 8  # the scenario and three states, two metrics
    assert frame["seeds"].tolist() == [2] * 8
    for row in frame.to_dict("records"):
        assert row["best"].value == pytest.approx(0.75)
        assert row["paper"].value == pytest.approx(0.55)
        assert row["difference"].difference == pytest.approx(0.2)
        assert row["best"].low < 0.75 < row["best"].high
        assert 0 < row["difference"].low < 0.2 < row["difference"].high
    assert "| both-50 | image only | accuracy | 75.0 [" in render(frame)
