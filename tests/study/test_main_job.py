"""The main job as a user runs it: search, kill, go on, export, train again; and as a Ray job."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import save_packed

ROOT = Path(__file__).parents[2]
SMALL = [
    "--method.image-network=small",
    "--method.width=16",
    "--method.tabular-heads=2",
    "--method.tabular-shared-depth=1",
    "--method.tabular-branch-depth=1",
    "--optim.batch-size=16",
    "--optim.learning-rate=3e-3",
]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]


def command(data: Path, runs: Path, *options: str) -> list[str]:
    study = [sys.executable, "studies/tune_dvm.py", f"--data={data}", f"--storage={runs}"]
    return [*study, "--name=study", *SMALL, *options]


def environment() -> dict[str, str]:
    own = {name: v for name, v in os.environ.items() if not name.startswith(("RAY_", "COV_"))}
    ours = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    return {**own, **ours}


def run(arguments: list[str], variables: dict[str, str] | None = None, ends_with: int = 0) -> str:
    done = subprocess.run(
        arguments,
        cwd=ROOT,
        env=variables or environment(),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == ends_with, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A study killed after some records, and run again; with the records it had by then."""
    place = tmp_path_factory.mktemp("main_job")
    save_packed(place / "data", num_samples=80)
    options = ["--scenarios=both-50,image-30", "--trials=4", "--epochs=6", "--checkpoint-every-s=0"]
    arguments = command(place / "data", place / "runs", *options)
    study = place / "runs/study"
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(study.glob("records/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.name: path.read_bytes() for path in study.glob("records/*.json")}
    assert 3 <= len(before) < 8
    run(arguments)
    return study, before


def test_after_a_kill_the_same_command_finishes_what_is_left(
    killed_and_resumed: tuple[Path, dict[str, bytes]],
) -> None:
    study, before = killed_and_resumed
    suggestions = [json.loads(p.read_text()) for p in sorted(study.glob("suggestions/*.json"))]
    assert sorted((s["search"], s["number"]) for s in suggestions) == [
        (search, number) for search in ("both-50", "image-30") for number in range(4)
    ]
    points = [(s["search"], json.dumps(s["point"], sort_keys=True)) for s in suggestions]
    assert len(set(points)) == 8
    records = {path.name: path.read_bytes() for path in study.glob("records/*.json")}
    assert {s["run_ids"][0] + ".json" for s in suggestions} == set(records)
    assert all(records[name] == content for name, content in before.items())
    assert not list(study.glob("checkpoints/*/last.pt"))


def test_the_papers_point_is_trial_0_and_runs_whole(
    killed_and_resumed: tuple[Path, dict[str, bytes]],
) -> None:
    from dfpl.study import records

    frame = records.load(killed_and_resumed[0])
    first = frame[frame["trial"] == 0]
    assert first["state"].tolist() == ["complete", "complete"]
    assert first["config.method.alpha"].tolist() == [1.0, 1.0]
    assert set(frame["state"]) <= {"complete", "pruned"}


def test_rays_view_carries_the_same_numbers(
    killed_and_resumed: tuple[Path, dict[str, bytes]],
) -> None:
    from ray import tune

    from dfpl.study import records

    study, _ = killed_and_resumed
    seen = tune.ResultGrid(tune.ExperimentAnalysis(str(study / "ray"))).get_dataframe()
    frame = records.load(study).set_index("run_id")
    assert len(seen) == len(frame) == 8
    for _, row in seen.iterrows():
        assert row["value"] == frame.loc[row["run_id"], "value"]
        assert row["state"] == frame.loc[row["run_id"], "state"]
    events = [path.read_bytes() for path in study.glob("ray/*/events.out.tfevents.*")]
    assert len(events) == 8
    assert all(b"_hparams_" in content and b"method.alpha" in content for content in events)


def test_a_best_config_trains_again_to_the_same_number(
    killed_and_resumed: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    from dfpl.study.records import RecordStore

    study, _ = killed_and_resumed
    dfpl = [sys.executable, "-c", "from dfpl.cli import main; main()"]
    best = str(tmp_path / "best.json")
    shown = run([*dfpl, "best", str(study), "--scenario", "both-50", "--out", best])
    assert "both-50" in shown
    text = run([*dfpl, "train", best, "--out", str(tmp_path / "model"), "--device", "cpu"])
    assert "the same" in text
    assert "NOT the same" not in text
    entry = json.loads(Path(best).read_text())["configs"][0]
    rows = RecordStore(study).epochs(entry["run_id"])
    objectives = [line.split()[3] for line in text.splitlines() if line.startswith("epoch")]
    assert objectives == [f"{row['train/objective']:.4f}" for row in rows]


def test_another_study_in_the_same_folder_is_refused(
    killed_and_resumed: tuple[Path, dict[str, bytes]],
) -> None:
    study, _ = killed_and_resumed
    said = run(command(study.parents[1] / "data", study.parent, "--epochs=7"), ends_with=2)
    assert "base.optim.epochs was 6, is 7" in said


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray head on loopback with token authentication, ended by its own process id: where it takes
    jobs, and the environment of a command that joins it."""
    token = tmp_path_factory.mktemp("head") / "token"
    token.write_text("0" * 64)
    token.chmod(0o600)
    bin_folder = str(Path(sys.executable).parent)
    with_token = {
        **environment(),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
    }
    sockets = [socket.socket() for _ in range(3)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    port, dashboard, agent = (each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    start = f"ray start --head --block --node-ip-address=127.0.0.1 --port={port} --num-cpus=2"
    temp = tempfile.mkdtemp(prefix="dfpl-ray.", dir="/tmp")  # a socket's path must be short
    place = f"--dashboard-host=127.0.0.1 --dashboard-port={dashboard}"
    process = subprocess.Popen(
        [
            *start.split(),
            *place.split(),
            f"--dashboard-agent-listen-port={agent}",
            f"--temp-dir={temp}",
        ],
        env=with_token,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{dashboard}"
    probe = ["ray", "job", "submit", "--address", address, "--no-wait", "--", "true"]
    for _ in range(40):
        if subprocess.run(probe, env=with_token, capture_output=True).returncode == 0:
            break
        time.sleep(0.5)
    yield address, {**with_token, "RAY_ADDRESS": f"127.0.0.1:{port}"}
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    shutil.rmtree(temp, ignore_errors=True)


def test_a_failing_run_is_recorded_and_the_study_goes_on(
    head: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    from dfpl.study import records

    save_packed(tmp_path / "data")
    options = ["--scenarios=both-50", "--trials=2", "--epochs=2", "--optim.learning-rate=1e30"]
    said = run(command(tmp_path / "data", tmp_path / "runs", *options), head[1], ends_with=2)
    assert "no trial of" in said
    frame = records.load(tmp_path / "runs/study")
    assert frame["state"].tolist() == ["failed", "failed"]
    assert frame["reason"].str.contains("the objective is not finite in epoch").all()


def test_two_workers_find_what_one_finds(head: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    from dfpl.study import records

    save_packed(tmp_path / "data", num_samples=90)
    options = ["--scenarios=both-50", "--trials=1", "--epochs=3"]
    for workers in (1, 2):
        runs = tmp_path / f"runs{workers}"
        run(command(tmp_path / "data", runs, *options, f"--workers={workers}"), head[1])
    one, two = (records.load(tmp_path / f"runs{n}/study").iloc[0] for n in (1, 2))
    assert (one["workers"], one["launcher"]) == (1, "inline")
    assert (two["workers"], two["launcher"]) == (2, "slot")
    assert one["run_id"] == two["run_id"]
    for metric in ("val/accuracy", "val/auroc", "test/scenario/prauc", "test/image/accuracy"):
        assert two[f"metrics.{metric}"] == pytest.approx(one[f"metrics.{metric}"], abs=1e-4)


def test_the_study_runs_as_a_ray_job(head: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, joined = head
    save_packed(tmp_path / "data")
    study = command(tmp_path / "data", tmp_path / "runs", "--scenarios=both-50", "--trials=2")
    submit = ["ray", "job", "submit", "--address", address, "--working-dir", ".", "--"]
    said = run([*submit, "python", *study[1:], "--epochs=2"], joined)
    assert "Best configs of study" in said
    exported = json.loads((tmp_path / "runs/study/best.json").read_text())
    assert exported["configs"][0]["scenario"] == "both-50"
