"""Results in a bucket: the same files, through the same calls, as on a disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import make_run, save_packed

from dfpl.storage import Storage
from dfpl.study.records import RecordStore, load
from dfpl.study.trial import Job, run_once
from dfpl.train import Runtime

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of boto3 under moto


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a folder in a bucket of a stand-in for S3 on loopback."""
    from moto.server import ThreadedMotoServer

    monkeypatch.setitem(os.environ, "AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setitem(os.environ, "AWS_SECRET_ACCESS_KEY", "a-secret-that-must-not-leak")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    query = f"?scheme=http&endpoint_override=127.0.0.1:{port}&allow_bucket_creation=true"
    Storage(f"s3://results{query}").filesystem.create_dir("results")
    yield f"s3://results/runs{query}"
    server.stop()


def test_a_run_leaves_its_record_and_checkpoints_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    packed = save_packed(tmp_path / "data")
    root = Storage(bucket) / "study"
    root.prove_writable()
    assert str(root).startswith("s3://results/runs/study?")
    store = RecordStore(root)
    job = Job(store=store, data=tmp_path / "data", search="both-50", trial=0)
    run = make_run(packed)
    runtime = Runtime(checkpoints=root / f"checkpoints/{run.run_id}", checkpoint_every_s=0.0)
    record = run_once(run, job, runtime)
    assert record.state == "complete", record.reason
    assert store.name == "study"
    assert RecordStore(str(root)).read(run.run_id) == record
    assert len(store.epochs(run.run_id)) == 2
    assert len(store.predictions(run.run_id).of_split("test")) == 15
    assert (root / "records").names(".json") == [f"{run.run_id}.json"]
    assert (root / f"checkpoints/{run.run_id}").names() == []
    frame = load(str(root))
    assert frame["value"].tolist() == [record.value]
    assert b"a-secret" not in root.read(f"records/{run.run_id}.json")
    root.delete_folder("records")
    assert not root.exists(f"records/{run.run_id}.json")
