"""What all tests share: one thread, so that numbers repeat to the last bit; and, where several
processes share the tests (`make test`), which of them stay together."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
SHARED = Path(__file__).parents[1].parent / "shared"
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)  # for the fixtures of a module, too, which come before that of a test


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests with Ray are for one process, so that clusters and what is timed come one after
    another; they take longest and come first. A file stays together, as its tests share fixtures,
    where its tests name no other groups."""
    if not hasattr(config, "workerinput"):
        return
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.nodeid.split("::")[0]
        if group == "ray" or not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(group))


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
