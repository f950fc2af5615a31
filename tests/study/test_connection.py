"""Raw files are read by tasks of a cluster, where there is more than one machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from raw_samples import LENIENT, made_up, spoil

from dfpl.data.packing import pack
from dfpl.study import connection
from dfpl.study.connection import readers, spread

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    yield
    ray.shutdown()


def test_tasks_read_what_this_process_would_have_read(cluster: None, tmp_path: Path) -> None:
    samples = spoil(made_up(tmp_path / "raw"), tmp_path)
    expected = pack(samples, tmp_path / "here", LENIENT, workers=1)
    found = pack(samples, tmp_path / "there", LENIENT, workers=spread)
    assert found.schema.content_hash == expected.schema.content_hash


def test_each_argument_is_answered_once_in_any_order(cluster: None) -> None:
    found = dict(spread(abs, list(range(0, -20, -1))))
    assert found == {place: place for place in range(20)}
    assert dict(spread(abs, [])) == {}


def test_one_machine_alone_reads_with_processes(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert readers() is None
    monkeypatch.setenv("RAY_ADDRESS", "here")  # this process is connected already
    assert readers() is None
    nodes: Any = [{"Alive": True}, {"Alive": True}, {"Alive": False}]
    monkeypatch.setattr(connection.ray, "nodes", lambda: nodes)
    assert readers() is spread
    monkeypatch.setattr(connection.ray, "nodes", lambda: nodes[1:])
    assert readers() is None
