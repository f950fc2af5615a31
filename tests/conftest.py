"""What all tests share: one thread, so that numbers repeat to the last bit."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def ham10000() -> Path:
    """The real dermoscopy images; tests on them are skipped where they are absent."""
    folder = SHARED / "data/ham10000"
    if not folder.is_dir():
        pytest.skip("the real data sets are not beside this checkout")
    return folder
