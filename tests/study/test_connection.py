"""Raw files are read by tasks of a cluster, where there is more than one machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from dfpl.study import connection
from dfpl.study.connection import readers, spread

TESTS = Path(__file__).parents[1]
ON_A_CLUSTER = """
import sys
from pathlib import Path

import ray
from raw_samples import LENIENT, made_up, spoil

from dfpl.data.packing import pack
from dfpl.study.connection import spread

folder = Path(sys.argv[1])
ray.init(address="local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
assert dict(spread(abs, list(range(0, -20, -1)))) == {place: place for place in range(20)}
assert dict(spread(abs, [])) == {}
samples = spoil(made_up(folder / "raw"), folder)
hashes = [pack(samples, folder / "here", LENIENT, workers=1).schema.content_hash]
hashes.append(pack(samples, folder / "there", LENIENT, workers=spread).schema.content_hash)
assert hashes[0] == hashes[1], hashes
"""


@pytest.mark.ray
def test_tasks_read_what_this_process_would_have_read(tmp_path: Path) -> None:
    """In a process of its own: what is left of a cluster in one would meet the next one there."""
    command = [sys.executable, "-c", ON_A_CLUSTER, str(tmp_path)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_one_machine_alone_reads_with_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert readers() is None
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setattr(connection, "connect", lambda: None)
    for alive, expected in (((True,), None), ((True, True), spread), ((True, False), None)):
        nodes = [{"Alive": one} for one in alive]
        monkeypatch.setattr(connection.ray, "nodes", lambda nodes=nodes: nodes)
        assert readers() is expected
