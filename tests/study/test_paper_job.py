"""From look-alike data to the paper's tables and figures, at a tiny size: every study that makes
them, then every command that reads its runs."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from test_main_job import ROOT, SMALL, run

from dfpl.data.sources import dvm
from dfpl.data.twins import dvm as look_alike
from dfpl.study.connection import RAY_ENVIRONMENT
from dfpl.study.run import DRIVER_ENVIRONMENT

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and files of ray itself
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TINY = [*SMALL, "--epochs=1", "--seeds=1"]
METHODS = "--methods=dfpl,drfuse"
STUDIES = {
    "table2": ["--name=ablations"],
    "table3": ["--name=ablations"],
    "table4": ["--name=ablations"],
    "table5": ["--name=ablations"],
    "table1": [METHODS, "--scenarios=both-50,image-50,tabular-50"],
    "figure3": [METHODS, "--scenarios=both-20,both-60,tabular-20,tabular-60"],
    "figure4": ["--name=table1", METHODS],
    "tune_dvm": ["--name=search", "--scenarios=both-50,image-50", "--trials=2"],
    "sensitivity": ["--values=2", "--from={runs}/search/best.json", "--scenario=both-50"],
    "transfer": ["--from={runs}/search/best.json"],
}
"""Each study with what it is given beside the size; those of one name share their runs."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All studies on the look-alike of DVM-CAR, in a cluster of this process."""
    place = tmp_path_factory.mktemp("paper")
    look_alike.write(place / "raw", look_alike.Options(models=6, adverts=24, pixels=16))
    dvm.pack(place / "raw", place / "data", dvm.Options(image_size=16, min_adverts=12, val=0.2))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**RAY_ENVIRONMENT, **DRIVER_ENVIRONMENT}.items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("RAY_ADDRESS", raising=False)
        environment = {"env_vars": RAY_ENVIRONMENT}
        ray.init("local", num_cpus=2, include_dashboard=False, runtime_env=environment)
        try:
            for name, given in STUDIES.items():
                where = [f"--data={place / 'data'}", f"--storage={place / 'runs'}"]
                own = [option.format(runs=place / "runs") for option in given]
                patch.setattr(sys, "argv", [name, *where, *TINY, *own])
                runpy.run_path(str(ROOT / f"studies/{name}.py"), run_name="__main__")
        finally:
            ray.shutdown()
    yield place / "runs"


def analysis(name: str, *arguments: str) -> str:
    return run([sys.executable, "-m", f"analysis.{name}", *arguments])


def dfpl(*arguments: str) -> str:
    return run([str(Path(sys.executable).with_name("dfpl")), *arguments])


@pytest.mark.parametrize("table", ["table2", "table3", "table4", "table5"])
def test_tables_of_the_ablations_are_whole(runs: Path, table: str) -> None:
    text = analysis(table, str(runs / "ablations"))
    assert text.startswith("**Table ") and "not there" not in text and "failed" not in text
    # the look-alike has the paper's name: its values stand beside
    assert text.count("paper ") >= {"table2": 4}.get(table, 6)


def test_table_1_and_the_claims(runs: Path) -> None:
    assert "**Table I: dvm, accuracy on the test split in percent**" in analysis(
        "table1", str(runs / "table1")
    )
    folders = [f"--{name}={runs / name}" for name in ("ablations", "table1", "figure3")]
    text = analysis("claims", *folders)
    assert "no runs" not in text and text.count("(one seed)") > 10


@pytest.mark.parametrize(
    ("figure", "name"),
    [("figure3", "figure3"), ("figure4", "table1"), ("sensitivity", "sensitivity")],
)
def test_figures_are_drawn(runs: Path, tmp_path: Path, figure: str, name: str) -> None:
    analysis(figure, str(runs / name), "--out", str(tmp_path))
    for kind in ("svg", "png", "csv"):
        assert (tmp_path / f"{figure}.{kind}").stat().st_size > 500


def test_what_a_search_leaves_can_be_read(runs: Path, tmp_path: Path) -> None:
    search = str(runs / "search")
    assert "What they rest on" in dfpl("best", search)
    assert "left out importance" in analysis("search", search, "--out", str(tmp_path))
    assert (tmp_path / "slices_both-50.svg").exists()
    assert "Tuned in (rows)" in analysis("transfer", str(runs / "transfer"))
    assert "DrFuse" in analysis("pairs", str(runs / "table1"))
    assert "samples" in analysis("precision", str(runs / "table1"))


@pytest.mark.parametrize("name", ["search", "ablations", "table1"])
def test_every_folder_has_a_report(runs: Path, tmp_path: Path, name: str) -> None:
    page = tmp_path / "report.html"
    dfpl("report", str(runs / name), "--out", str(page))
    assert 1e6 < page.stat().st_size < 5e6


def test_a_model_shows_what_it_looks_at(runs: Path, tmp_path: Path) -> None:
    model, saved = str(tmp_path / "model"), str(tmp_path / "saved.parquet")
    best = str(runs / "search/best.json")
    trained = dfpl("train", best, "--scenario", "both-50", "--out", model)
    assert trained.rstrip().endswith(": the same")
    data = ["--data", str(runs.parent / "data")]
    dfpl("evaluate", model, *data, "--save-representations", saved)
    analysis("figure5", saved, "--out", str(tmp_path))
    analysis("figure6", saved, saved, "--out", str(tmp_path))
    for name in ("figure5.svg", "figure6.png", "figure6.csv"):
        assert (tmp_path / name).stat().st_size > 500
