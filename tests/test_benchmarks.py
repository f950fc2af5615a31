"""The benchmarks run, on a small scale; how fast anything is, no test says."""

import importlib
import json
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


TINY = {"batch": 8, "image_size": 32, "image_network": "small", "width": 16, "classes": 3}


def test_step() -> None:
    step, shapes = benchmark("step"), benchmark("shapes")
    settings = step.Settings(shape=shapes.Shape(**TINY), rounds=2, device="cpu")
    rows = {row["case"]: row for row in step.measure(settings)}
    assert rows[step.DFPL]["time / DFPL"].median == 1
    assert rows[step.PLAIN]["KiB kept per sample"] < rows[step.DFPL]["KiB kept per sample"]
    missing = [rows[f"images 70 % missing, {way}"] for way in ("zeros", "skip")]
    assert missing[1]["KiB kept per sample"] < missing[0]["KiB kept per sample"]
    assert rows["transport, both terms"]["time / DFPL"].median < 1


def test_cost() -> None:
    cost = benchmark("cost")
    settings = cost.Settings(
        methods="forest,table_only,if_mmin",
        batch_size=8,
        image_network="small",
        image_size=32,
        width=16,
        classes=3,
        heads=2,
        repeats=2,
        device="cpu",
    )
    rows = {row["method"]: row for row in cost.measure(settings)}
    assert list(rows) == ["dfpl", "forest", "table_only", "if_mmin"]
    assert rows["dfpl"]["step / DFPL's"].median == rows["dfpl"]["scenario / DFPL's"].median == 1
    assert rows["forest"]["parameters, million"] == 0
    assert rows["forest"]["step / DFPL's"] is rows["forest"]["MiB per sample"] is None
    assert 0 < rows["table_only"]["MiB per sample"] < rows["dfpl"]["MiB per sample"]
    assert rows["if_mmin"]["step / DFPL's"].median > 0  # of its two stages
    assert all(row["scenario, µs per sample"].median > 0 for row in rows.values())


def test_growth() -> None:
    growth, shapes = benchmark("growth"), benchmark("shapes")
    settings = growth.Settings(
        batch=(4, 8, 16),
        prototypes=(2, 3, 4),
        classes=(3, 6, 12),
        width=(8, 16, 32),
        tokens=(2, 4, 8),
        start=shapes.Shape(**TINY),
        rounds=1,
        device="cpu",
    )
    rows = growth.measure(settings)
    assert [row["size"] for row in rows if row["varied"] == "tokens"] == [2, 4, 8]
    kept = {(row["varied"], row["size"]): row["MiB kept"] for row in rows}
    assert kept["batch", 8] < kept["batch", 16] <= 2 * kept["batch", 8]


def test_transport() -> None:
    transport = benchmark("transport")
    settings = transport.Settings(samples=4, width=8, prototypes=(2,), epsilons=(0.5,), rounds=1)
    rows = transport.measure(settings)
    assert [row["prototypes"] for row in rows] == ["raw", "unit", "near"]
    assert all(row["violation, ours"] <= 1e-6 for row in rows)


def test_extraction() -> None:
    extraction = benchmark("extraction")
    settings = extraction.Settings(events=1000, stays=20, times=3)
    rows = extraction.measure(settings)
    assert rows[1]["chart events"] > 2 * rows[0]["chart events"] > 2000
    assert all(row["peak, MiB"] > row["of it imports, MiB"] > 10 for row in rows)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets and files of ray itself
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    launchers = benchmark("launchers")
    for name, value in {**launchers.DRIVER_ENVIRONMENT, "RAY_AUTH_MODE": "disabled"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    settings = launchers.Settings(trials=3, epochs=1, samples=40, train_workers=())
    rows = {row["launcher"]: row for row in launchers.measure(settings)}
    assert list(rows) == [
        f"{name}, {state}" for name in ("inline", "slot, 2 ranks") for state in ("cold", "warm")
    ]
    for row in rows.values():
        assert 0 < row["to first batch"].median < row["beside training"].median


def test_cases_take_turns_and_ratios_are_within_a_round() -> None:
    bench, calls = benchmark("bench"), []
    cases = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = bench.take_turns(cases, rounds=3, warmup=1)
    assert [sorted(calls[i : i + 2]) for i in range(0, 8, 2)] == [["a", "b"]] * 4
    assert len(seconds["a"]) == len(seconds["b"]) == 3
    spread = bench.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 1.0])  # 2, 3, 4
    assert (spread.low, spread.median, spread.high) == (2.5, 3.0, 3.5)
    assert bench.exponent([2, 4, 8], [12, 48, 192]) == pytest.approx(2)


def test_what_is_published_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, growth = benchmark("bench"), benchmark("growth")
    monkeypatch.setattr(bench, "OUT", tmp_path)
    rows = [{"case": "a", "ratio": bench.Spread(2.0, 1.5, 3.0)}, {"case": "b", "ratio": None}]
    path = bench.publish("made_up", "Made up", rows, growth.Settings())
    content = json.loads(path.read_text())
    assert content["rows"][0]["ratio"] == {"median": 2.0, "low": 1.5, "high": 3.0}
    assert content["settings"]["start"]["classes"] == 30 and content["machine"]["threads"] >= 1
    expected = "| case | ratio |\n| --- | --- |\n| a | 2 [1.5, 3] |\n| b |  |\n"
    assert path.with_suffix(".md").read_text() == expected


def test_report() -> None:
    report = benchmark("report")
    [row] = report.measure(report.Settings(trials=(9,)))
    assert row["trials"] == "12" and row["seconds of CPU"] > 0 and 1 < row["MB"] < 5


def test_scores() -> None:
    scores = benchmark("scores")
    settings = scores.Settings(datasets=("MIMIC", "ADNI"), share=0.02, seeds=2)
    rows = scores.measure(settings)
    assert [row["data set"] for row in rows] == ["MIMIC", "ADNI"]
    assert all(number > 0 for row in rows for number in list(row.values())[1:])
