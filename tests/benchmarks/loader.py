"""The packed loader against decoding pictures, and what a training step loses by it.

Run       python tests/benchmarks/loader.py
          python tests/benchmarks/loader.py --images FOLDER --pictures 2000 --steps 0
          python tests/benchmarks/loader.py --sizes 128 --network resnet50 --width 512
          --batch-size 256 --steps 40 --precision bfloat16   (on a GPU)
Makes     runs/benchmarks/loader_reading.json, loader_training.json
Shows     reading: pictures per second and core, from packed pixels to uint8 batches in memory in
          random order, over the same from picture files by Pillow and torch's DataLoader. By
          default the files are painted, 300 x 300 JPEG of about 9 kB, as in DVM-CAR.
          training: throughput with the loader, over that of the same steps on batches that lie on
          the device already: as pixels that are still to be augmented, and ready to use. And the
          share of the time in which training waited because a batch was not read yet.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
import tyro
from bench import Row, Spread, publish, ratio, take_turns
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dfpl.compute import Compute, Precision
from dfpl.config import AugmentConfig, OptimConfig
from dfpl.data.loader import Loader, View
from dfpl.data.packed import PackedDataset
from dfpl.data.packing import pack
from dfpl.data.raw import PackOptions, RawSamples, nothing_dropped
from dfpl.data.twins.dvm import Options as TwinOptions
from dfpl.data.twins.dvm import write as write_dvm
from dfpl.encoders.image import ImageNetwork
from dfpl.method import build, place
from dfpl.model import Config
from dfpl.step import Stepper

NUMERIC, CATEGORY = 13, 4  # columns, as in DVM-CAR
SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Settings:
    images: str = ""
    """Folder of pictures; by default some are painted."""
    pictures: int = 512
    """How many are packed and decoded."""
    pixels: int = 300
    """Height and width of painted pictures."""
    quality: int = 50
    """JPEG quality of painted pictures."""
    sizes: tuple[int, ...] = (64, 128, 224)
    """Heights and widths to which pictures are packed; training takes `train_size`."""
    read_batch: int = 256
    packed_mb: int = 512
    """Packed pixels are repeated up to this many MB, so that they do not fit into a cache."""

    train_size: int = 128
    network: ImageNetwork = "resnet18"
    width: int = 256
    batch_size: int = 32
    steps: int = 2
    """Training steps per round; 0 leaves training out."""
    precision: Precision = "float32"
    compile: bool = False
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    rounds: int = 7
    threads: int = 1


def measure(settings: Settings) -> dict[str, list[Row]]:
    """The rows of both tables."""
    torch.set_num_threads(settings.threads)
    with TemporaryDirectory() as folder:
        files = picture_files(settings, Path(folder) / "pictures")
        packed = {
            size: pack_files(files, size, settings.packed_mb, Path(folder) / str(size))
            for size in {*settings.sizes, settings.train_size}
        }
        reading = [read(files, packed[size], settings) for size in settings.sizes]
        training = [train(packed[settings.train_size], settings)] if settings.steps else []
    return {"reading": reading, "training": training}


def picture_files(settings: Settings, folder: Path) -> list[Path]:
    """Some pictures of a folder, or so many painted ones."""
    if settings.images:
        found = sorted(p for p in Path(settings.images).rglob("*") if p.suffix.lower() in SUFFIXES)
        return found[: settings.pictures]
    models = 8
    adverts = max(12, -(-settings.pictures // (2 * models)))  # of 2.5 pictures on average
    write_dvm(folder, TwinOptions(models=models, adverts=adverts, pixels=settings.pixels))
    found = sorted(folder.rglob("*.jpg"))[: settings.pictures]
    for path in found:
        with Image.open(path) as picture:
            picture.load()
        picture.save(path, quality=settings.quality)
    return found


def pack_files(files: Sequence[Path], size: int, megabytes: int, out: Path) -> PackedDataset:
    """Packed by the project's own reader, with made-up cells and labels, then repeated."""
    N, rng = len(files), np.random.default_rng(0)
    names = pd.Series([f"{row:06d}" for row in range(N)])
    split = np.array(["train"] * 8 + ["val", "test"], dtype=object)[np.arange(N) % 10]
    levels = rng.integers(0, 30, (N, CATEGORY)).astype(str)
    samples = RawSamples(
        name="pictures",
        source="benchmark",
        id=names,
        group=names,
        label=pd.Series(np.arange(N) // 10 % 2).astype(str),
        split=pd.Series(split),
        image=pd.Series([str(path) for path in files]),
        numeric=pd.DataFrame(rng.normal(size=(N, NUMERIC))).add_prefix("n"),
        category=pd.DataFrame(levels).add_prefix("c"),
        dropped=nothing_dropped(),
    )
    packed = pack(samples, out, PackOptions(image_size=size), workers=1)
    return repeated(packed, -(-megabytes * 10**6 // packed.image.nbytes), out / "repeated.npy")


def repeated(packed: PackedDataset, times: int, target: Path) -> PackedDataset:
    """The same samples so many times, the pixels mapped from `target`."""
    N = len(packed)
    pixels = np.lib.format.open_memmap(
        target, mode="w+", dtype=np.uint8, shape=(times * N, *packed.image.shape[1:])
    )
    for start in range(0, times * N, N):
        pixels[start : start + N] = packed.image
    pixels.flush()
    rows = np.tile(np.arange(N), times)
    sample = packed.sample.iloc[rows].reset_index(drop=True)
    return dataclasses.replace(
        packed,
        image=np.load(target, mmap_mode="r"),
        numeric=packed.numeric[rows],
        category=packed.category[rows],
        label=packed.label[rows],
        sample=sample.assign(id=[f"{row:08d}" for row in range(times * N)]),
    )


def view_of(packed: PackedDataset, num_rows: int) -> View:
    """The first samples, each with image and table: nothing is spared by a scenario."""
    rows = np.arange(num_rows) % len(packed)
    return View(packed, rows, np.ones((num_rows, 2), dtype=bool))


def read(files: Sequence[Path], packed: PackedDataset, settings: Settings) -> Row:
    view, size = view_of(packed, len(packed)), packed.schema.image_size
    loader = Loader(view, view.statistics(), settings.read_batch, torch.device("cpu"))
    decoding = DataLoader(Decoded(files, size), settings.read_batch, shuffle=True)
    order = np.random.default_rng(0).permutation(len(packed))
    parts = np.array_split(order, loader.steps)

    def ours() -> None:
        for part in parts:
            loader.read(part)

    seconds = take_turns({"ours": ours, "Pillow": lambda: list(decoding)}, settings.rounds)
    per_picture = {
        "ours": [s / len(packed) for s in seconds["ours"]],
        "Pillow": [s / len(files) for s in seconds["Pillow"]],
    }
    return {
        "files": f"{settings.images or 'painted'}, {sizes_of(files)}",
        "kB": float(np.mean([path.stat().st_size for path in files]) / 1e3),
        "packed": f"{size} x {size}",
        "Pillow /s": rate(per_picture["Pillow"]),
        "ours /s": rate(per_picture["ours"]),
        "GB/s": rate(per_picture["ours"]) * packed.image[0].nbytes / 1e9,
        "ours / Pillow": ratio(per_picture["Pillow"], per_picture["ours"]),
    }


class Decoded(Dataset):
    """Pictures decoded when they are asked for, as is usual."""

    def __init__(self, files: Sequence[Path], size: int) -> None:
        self.files = files
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> Tensor:
        with Image.open(self.files[row]) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB").resize([self.size] * 2)))


def sizes_of(files: Sequence[Path]) -> str:
    """Height and width of the first picture, and its format."""
    with Image.open(files[0]) as picture:
        return f"{picture.height} x {picture.width} {picture.format}"


def rate(seconds: Sequence[float]) -> float:
    return 1 / float(np.median(seconds))


def train(packed: PackedDataset, settings: Settings) -> Row:
    view = view_of(packed, settings.batch_size * settings.steps)
    loader = Loader(view, view.statistics(), settings.batch_size, torch.device(settings.device))
    step = stepper(packed, settings)
    augmentation, waited = AugmentConfig(), []

    def end_to_end() -> None:
        for batch in loader.epoch(0, 0, augmentation):
            step(batch)
        waited.append(loader.waited_s)

    ready = list(loader.epoch(0, 0, augmentation))
    parts = np.array_split(np.arange(len(view.rows)), loader.steps)
    pieces = [loader.read(part).to(loader.device) for part in parts]
    cases: dict[str, Callable[[], Any]] = {
        "loader": end_to_end,
        "resident": lambda: [step(loader.build(piece, augmentation)) for piece in pieces],
        "ready": lambda: [step(batch) for batch in ready],
    }
    seconds = take_turns(cases, settings.rounds)
    shares = [w / s for w, s in zip(waited[-settings.rounds :], seconds["loader"], strict=True)]
    return {
        "model": f"{settings.network}, width {settings.width}, {settings.precision}",
        "pictures": f"{settings.train_size} x {settings.train_size}",
        "batch": settings.batch_size,
        "ms per step": 1e3 * float(np.median(seconds["loader"])) / settings.steps,
        "per s": rate(seconds["loader"]) * len(view.rows),
        "waited": Spread.of(shares),
        "/ resident pixels": ratio(seconds["resident"], seconds["loader"]),
        "/ ready batches": ratio(seconds["ready"], seconds["loader"]),
    }


def stepper(packed: PackedDataset, settings: Settings) -> Callable[..., Any]:
    """A training step of DFPL on a batch."""
    torch.manual_seed(0)
    config = Config(image_network=settings.network, width=settings.width)
    method = place(build(config, packed.schema), torch.device(settings.device)).train()
    optim = OptimConfig(batch_size=settings.batch_size)
    compute = Compute(precision=settings.precision, compile=settings.compile)
    stepper = Stepper(method, optim, compute)
    return lambda batch: stepper.step(batch, optim.learning_rate)


TITLES = {
    "reading": "Reading: packed pixels against picture files, one thread each",
    "training": "Training: throughput with the loader over that on data already on the device",
}

if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    for name, rows in measure(settings).items():
        if rows:
            publish(f"loader_{name}", TITLES[name], rows, settings)
