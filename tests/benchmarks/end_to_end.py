"""From nothing to an evaluated model on the look-alike of each data set, by the README's commands.

Run       python tests/benchmarks/end_to_end.py
          python tests/benchmarks/end_to_end.py --size 240 --epochs 2 --data-sets mimic
Makes     runs/benchmarks/end_to_end.json, and a copy at `out`
Shows     for each command: seconds, the largest process of it in MiB, and what it said last. Small
          encoders and pictures, so that a laptop is enough; DFPL and DrFuse in both-50.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from bench import Row, publish

ROOT = Path(__file__).parents[2]
TWIN = {
    "dvm": "--adverts {dvm}",
    "mimic": "--size {mimic}",
    "adni": "--size {adni}",
}
PIXELS = {"dvm": 48, "mimic": 48, "adni": 24}
SMALL = (
    "--method.width 32 --method.image-network small --method.tabular-heads 4 "
    "--optim.learning-rate 1e-3 --optim.batch-size 16"
)
COMMANDS = (
    "dfpl data twin {name} raw/{name} {twin}",
    "dfpl data check {name} raw/{name} --image-size {pixels}",
    "dfpl data pack {name} raw/{name} data/{name} --image-size {pixels}",
    "python {root}/studies/tune_{name}.py --data data/{name} --scenarios both-50 --trials 1 "
    "--epochs {epochs} {small}",
    "python {root}/studies/tune_{name}.py --data data/{name} --scenarios both-50 --trials 1 "
    "--epochs {epochs} {small} --method drfuse",
    "dfpl train runs/tune_{name}/best.json --out model_{name}",
    "dfpl evaluate model_{name} --data data/{name} --scenarios both-50 "
    "--factors raw/{name}/factors.csv",
    "dfpl train runs/tune_{name}_drfuse/best.json --out drfuse_{name}",
    "dfpl evaluate drfuse_{name} --data data/{name} --scenarios both-50",
)


@dataclass(frozen=True)
class Settings:
    size: int = 2000
    """Samples of each data set after packing, at least."""
    epochs: int = 10
    data_sets: str = "dvm,mimic,adni"
    folder: str = ""
    """Where everything is written and kept; default: a temporary folder."""
    out: str = ""
    """A file for all that the commands print."""


def measure(settings: Settings) -> list[Row]:
    if settings.folder:
        Path(settings.folder).mkdir(parents=True, exist_ok=True)
        return _measure(settings, Path(settings.folder))
    with tempfile.TemporaryDirectory() as folder:
        return _measure(settings, Path(folder))


def _measure(settings: Settings, folder: Path) -> list[Row]:
    rows, said = [], []
    # of 8 models a tenth of the adverts is dropped, a quarter of the stays has no film, a subject
    # has some 2.9 scans with a diagnosis
    sizes = {"dvm": settings.size // 7, "mimic": int(settings.size * 1.4)}
    sizes["adni"] = int(settings.size / 2.8)
    for name in settings.data_sets.split(","):
        for command in COMMANDS:
            text = command.format(
                name=name,
                twin=TWIN[name].format(**sizes),
                pixels=PIXELS[name],
                epochs=settings.epochs,
                small=SMALL,
                root=ROOT,
            )
            row, output = _run(text, folder)
            rows.append(row)
            said.append(f"$ {row['command']}\n{output}")
            print(f"{row['seconds']:.1f} s, {row['MiB']:.0f} MiB: {row['command']}", flush=True)
    if settings.out:
        Path(settings.out).write_text("\n".join(said))
    return rows


def _run(text: str, folder: Path) -> tuple[Row, str]:
    """Raises RuntimeError with what a command said where it fails."""
    words = shlex.split(text)
    words[0] = str(Path(sys.executable).with_name(words[0]))
    start = time.perf_counter()
    with (folder / "said").open("w+") as output:
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        said = output.read()
    if code := os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{text}: exit code {code}\n{said}")
    shown = text.replace(f"{ROOT}/", "")
    last = next(line for line in reversed(said.splitlines()) if line.strip())
    return {"command": shown, "seconds": seconds, "MiB": usage.ru_maxrss / 1024, "said": last}, said


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("end_to_end", "From nothing to an evaluated model", measure(settings), settings)
