"""Checkpoints: whole or counted as absent, and never a way to run code."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from dfpl.checkpoint import LAST, Progress, clone, load_weights, save_weights
from dfpl.storage import Storage

CPU = torch.device("cpu")


def progress() -> Progress:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Progress(
        epochs_done=3,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        best={"weight": torch.full((2, 2), 0.1)},
        best_epoch=2,
        best_value=1 / 3,
        rows=[{"epoch": 1, "value": 0.1 + 0.2}],
        seconds=1.5,
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = progress()
    torch.manual_seed(7)
    saved.save(Storage(tmp_path))
    expected = torch.rand(3)
    loaded = Progress.load(Storage(tmp_path))
    assert loaded is not None
    torch.set_rng_state(loaded.generator)
    assert torch.equal(torch.rand(3), expected)
    for name in ("epochs_done", "best_epoch", "best_value", "rows", "seconds"):
        assert getattr(loaded, name) == getattr(saved, name), name
    assert torch.equal(loaded.best["weight"], saved.best["weight"])
    for key, value in saved.optimizer["state"][0].items():
        assert torch.equal(loaded.optimizer["state"][0][key], value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_checkpoint_counts_as_none(tmp_path: Path, share: float) -> None:
    folder = Storage(tmp_path)
    assert Progress.load(folder) is None
    progress().save(folder)
    content = folder.read(LAST)
    folder.write(LAST, content[: int(share * len(content))])
    assert Progress.load(folder) is None


def test_a_checkpoint_of_another_version_counts_as_none(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"epochs": 3, "generator": torch.get_rng_state()}, stream)
    Storage(tmp_path).write(LAST, stream.getvalue())
    assert Progress.load(Storage(tmp_path)) is None


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_code_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({**vars(progress()), "best": Malicious(tmp_path / "harm")}, stream)
    Storage(tmp_path).write(LAST, stream.getvalue())
    with pytest.raises(Exception, match="Weights only load failed"):
        Progress.load(Storage(tmp_path))
    assert not (tmp_path / "harm").exists()


def test_weights_come_back_bit_by_bit(tmp_path: Path) -> None:
    weights = {"a": torch.randn(3, 4).T, "b.count": torch.tensor(5)}
    save_weights(weights, Storage(tmp_path))
    loaded = load_weights(Storage(tmp_path))
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_a_clone_does_not_follow_later_steps() -> None:
    layer = torch.nn.Linear(2, 2)
    kept = clone(layer.state_dict())
    before = layer.weight.detach().clone()
    torch.nn.init.ones_(layer.weight)
    assert torch.equal(kept["weight"], before)
