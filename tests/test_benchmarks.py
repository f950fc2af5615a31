"""The benchmarks run, on a small scale; how fast anything is, no test says."""

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def benchmark(name: str) -> Any:
    return importlib.import_module(name)


def test_loader() -> None:
    loader = benchmark("loader")
    tables = loader.measure(
        loader.Settings(
            pictures=40,
            pixels=24,
            sizes=(16, 20),
            read_batch=16,
            packed_mb=1,
            train_size=16,
            network="small",
            width=16,
            batch_size=4,
            steps=2,
            device="cpu",
            rounds=2,
        )
    )
    assert [row["packed"] for row in tables["reading"]] == ["16 x 16", "20 x 20"]
    for row in tables["reading"]:
        assert row["files"] == "painted, 24 x 24 JPEG"
        assert row["ours / Pillow"].median > 0
    (row,) = tables["training"]
    assert 0 <= row["waited"].low <= row["waited"].high < 1
    assert row["/ resident pixels"].median > 0 and row["/ ready batches"].median > 0


def test_evaluation() -> None:
    evaluation = benchmark("evaluation")
    tables = evaluation.measure(
        evaluation.Settings(
            rows=40,
            classes=3,
            scenarios="both-50,image-30",
            draws=5,
            network="small",
            image_size=16,
            width=16,
            batch_size=16,
            device="cpu",
            rounds=2,
        )
    )
    ways = {row["way"]: row for row in tables["passes"]}
    assert (ways["one pass"]["passes"], ways["one pass"]["scored"]) == (1, 10)
    assert ways["naive"]["passes"] == 10
    assert ways["one pass"]["/ plain"].median > 0 and ways["naive"]["naive / it"].median == 1
    assert len(tables["table"]) == 6
