"""Work that is spread over cores once it takes long, and scores that do not depend on it."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from samples import make_packed, make_run
from test_confirm import leave

from analysis.cores import each
from analysis.runs import Runs, score_runs
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.study.records import RecordStore


def where(item: int) -> tuple[int, int]:
    time.sleep(0.01)
    return item, os.getpid()


def end(item: int) -> int:
    if item:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_short_work_stays_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert each(where, range(5), "numbers") == [(item, os.getpid()) for item in range(5)]
    assert each(where, [], "numbers") == []
    assert capsys.readouterr().err == ""


def test_long_work_is_shared_in_order_and_tells_how_far_it_is(
    impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    items, places = zip(*each(where, range(9), "numbers"), strict=True)
    assert items == tuple(range(9))
    assert places[0] == os.getpid() not in places[1:]
    assert "numbers: 9 of 9" in capsys.readouterr().err


def test_a_killed_process_is_told_with_a_way_out(impatient: None) -> None:
    with pytest.raises(ConfigError, match=r"the numbers was killed.*LOKY_MAX_CPU_COUNT=1"):
        each(end, range(4), "numbers")


def test_runs_are_scored_alike_wherever_that_is_done(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store, run = RecordStore(tmp_path), make_run(make_packed())
    for seed in range(4):
        leave(store, run.with_values({"seed": seed}), 0.5, 0.5 + seed / 10)
    runs = {"a": Runs(list(store.read_all()))}
    runs["again"] = runs["a"]
    asked = [Scenario.parse("both-50"), Scenario.parse("image-100")]
    here = score_runs(store, runs, asked, "prauc", see=len)
    request.getfixturevalue("impatient")
    there = score_runs(store, runs, asked, "prauc", see=len)
    assert list(here.scores["a"]) == list(there.scores["a"]) == [0, 1, 2, 3]
    for name in runs:
        for seed, scores in here.scores[name].items():
            np.testing.assert_array_equal(scores, there.scores[name][seed])
    assert here.seen == there.seen == dict.fromkeys(runs, dict.fromkeys(range(4), 40))
    assert here.n == there.n == 40


def test_no_runs_are_no_scores(tmp_path: Path) -> None:
    found = score_runs(RecordStore(tmp_path), {}, [Scenario.parse("both-50")], "accuracy")
    assert found.scores == {} and found.n == 0
