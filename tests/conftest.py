"""What all tests share: one thread, so that numbers repeat to the last bit; and, where several
processes share the tests (`make test`), which of them stay together."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves where the others are busy
torch.set_num_threads(1)  # for the fixtures of a module, too, which come before that of a test


@cache
def together(file: str) -> str:
    """The tests that one process takes: those of a file, as they share fixtures, and those of all
    files with Ray, so that clusters, their ports and what is timed come one after another."""
    return "ray" if "pytest.mark.ray" in (ROOT / file).read_text() else file


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the tests, those with Ray, which take longest, come first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: together(item.nodeid.split("::")[0]) != "ray")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In place of --dist loadgroup, whose groups xdist 3.8 loses under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid.split("::")[0])

    config.option.loadscopereorder = False  # else the files with most tests come first
    return Together(config, log)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def ham10000() -> Path:
    """The real dermoscopy images; tests on them are skipped where they are absent."""
    folder = SHARED / "data/ham10000"
    if not folder.is_dir():
        pytest.skip("the real data sets are not beside this checkout")
    return folder


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """`analysis.cores` asks others after the first item, as many as on a machine with two cores."""
    from analysis import cores

    monkeypatch.setattr(cores, "SOON_S", 0.0)
    monkeypatch.setattr(cores, "LONG_S", 0.0)
    monkeypatch.setattr(cores.joblib, "cpu_count", lambda: 2)
