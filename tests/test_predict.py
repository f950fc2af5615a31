"""New rows as they are read, and what a model says of them."""

import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from samples import SCHEMA, make_run, save_packed

from dfpl.data.episodes import VARIABLES, EpisodeReader
from dfpl.data.packed import DataError, PackedDataset, Schema
from dfpl.predict import FileColumns, TrainedModel, classes_table, predict, read_rows
from dfpl.predictions import Predictions
from dfpl.storage import Storage
from dfpl.train import Runtime, fit

CPU = torch.device("cpu")
HEADER = "name,image,length,weight,colour,shape"


def write(folder: Path, *lines: str, name: str = "new.csv") -> Path:
    """A table beside the pictures dark.png and light.png."""
    folder.mkdir(exist_ok=True)
    for picture, value in (("dark", 20), ("light", 220)):
        Image.fromarray(np.full((40, 50, 3), value, np.uint8)).save(folder / f"{picture}.png")
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def complaint_of(path: Path, image_column: str = "image") -> str:
    with pytest.raises(DataError) as error:
        read_rows(path, SCHEMA, None, FileColumns(image_column))
    return str(error.value)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    place = tmp_path_factory.mktemp("model")
    packed = save_packed(place / "data")
    run = make_run(packed)
    TrainedModel.of(run, packed.schema, fit(run, packed, Runtime())).save(Storage(place / "model"))
    return TrainedModel.load(Storage(place / "model"), CPU)


def test_cells_become_the_codes_and_numbers_of_the_model(tmp_path: Path) -> None:
    rows = read_rows(
        write(tmp_path, HEADER, "a,dark.png,1.5,,red,tall", "b,light.png,,2,green,"), SCHEMA, None
    )
    assert np.array_equal(rows.numeric, np.array([[1.5, np.nan], [np.nan, 2]]), equal_nan=True)
    assert rows.category.tolist() == [[3, 4], [1, 0]]  # green was never seen, the shape is empty
    assert [int(picture.mean()) for picture in rows.image] == [20, 220]
    assert rows.image.shape == (2, 32, 32, 3)


def test_the_order_of_the_files_columns_does_not_matter(tmp_path: Path) -> None:
    one = write(tmp_path, HEADER, "a,dark.png,1.5,0.5,red,tall")
    two = write(tmp_path, "shape,weight,image,colour,length", "tall,0.5,dark.png,red,1.5", name="x")
    first, second = (read_rows(path, SCHEMA, None) for path in (one, two))
    for name in ("image", "numeric", "category"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_an_empty_cell_or_an_empty_table_is_an_absent_modality(tmp_path: Path) -> None:
    lines = ["a,dark.png,1,2,red,flat", "b,,1,2,red,flat", "c,dark.png,,,,", "d,NA,,,red,NA"]
    rows = read_rows(write(tmp_path, HEADER, *lines), SCHEMA, None)
    present = rows.present(np.arange(4)).tolist()
    assert present == [[True, True], [False, True], [True, False], [False, True]]


def test_a_file_without_the_image_column_has_tables_alone(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, "length,weight,colour,shape", "1,2,red,flat"), SCHEMA, None)
    assert rows.present(np.arange(1)).tolist() == [[False, True]]


def test_a_file_without_any_table_column_has_images_alone(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, "name,image", "a,dark.png"), SCHEMA, None)
    assert rows.present(np.arange(1)).tolist() == [[True, False]]


def test_pictures_may_lie_elsewhere_under_another_column(tmp_path: Path) -> None:
    write(tmp_path / "pictures", HEADER)
    path = write(tmp_path / "tables", "photo", "light.png")
    (tmp_path / "tables/light.png").unlink()
    rows = read_rows(path, SCHEMA, tmp_path / "pictures", FileColumns("photo"))
    assert int(rows.image.mean()) == 220


def test_one_lacking_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    text = complaint_of(
        write(tmp_path, "image,length,wieght,colour,shape", "dark.png,1,2,red,flat")
    )
    assert "new.csv: there is no field 'weight'; did you mean 'wieght'?" in text
    assert text.count("there is no field") == 1


def test_rows_with_neither_modality_are_listed_by_line(tmp_path: Path) -> None:
    lines = ["a,dark.png,1,2,red,flat", "b,,,,,", "c,,1,,,", "d,NA,NA,,,"]
    text = complaint_of(write(tmp_path, HEADER, *lines))
    assert "2 rows of new.csv have neither image nor table (lines 3, 5)" in text


def test_an_image_column_of_another_name_is_asked_for(tmp_path: Path) -> None:
    text = complaint_of(write(tmp_path, "name,photo", "a,dark.png"))
    assert "1 rows of new.csv have neither image nor table (lines 2)" in text
    assert "the image is read from column 'image'" in text


def test_every_picture_that_cannot_be_read_is_listed(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    lines = ["a,dark.png,1,2,red,flat", "b,lost.png,1,2,red,flat", "c,torn.png,1,2,red,flat"]
    text = complaint_of(write(tmp_path, HEADER, *lines))
    assert f"line 3: {tmp_path}/lost.png" in text
    assert f"line 4: {tmp_path}/torn.png" in text
    assert "dark.png" not in text


def test_infinities_are_refused_by_column(tmp_path: Path) -> None:
    text = complaint_of(write(tmp_path, HEADER, "a,dark.png,1,inf,red,flat"))
    assert "column 'weight' holds infinities" in text


def test_chances_sum_to_one_and_the_prediction_is_the_largest(
    model: TrainedModel, tmp_path: Path
) -> None:
    lines = ["a,dark.png,1,2,red,flat", "b,,1,2,red,flat", "c,light.png,,,,"]
    rows = read_rows(write(tmp_path, HEADER, *lines), model.schema, None)
    found = predict(model, rows, CPU)
    assert found["available"].tolist() == ["both", "table", "image"]
    chances = found[[f"p({name})" for name in model.schema.class_names]].to_numpy()
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, atol=1e-6)
    best = [model.schema.class_names[c] for c in chances.argmax(axis=1)]
    assert found["prediction"].tolist() == best


def test_a_prediction_does_not_depend_on_the_other_rows(
    model: TrainedModel, tmp_path: Path
) -> None:
    lines = ["a,dark.png,1,2,red,flat", "b,,1,2,red,flat", "c,light.png,,,,"]
    together = predict(
        model, read_rows(write(tmp_path, HEADER, *lines), model.schema, None), CPU
    ).filter(like="p(")
    for at, line in enumerate(lines):
        rows = read_rows(write(tmp_path, HEADER, line), model.schema, None)
        alone = predict(model, rows, CPU).filter(like="p(")
        np.testing.assert_allclose(together.iloc[[at]], alone, atol=1e-6)


def test_what_is_absent_cannot_change_a_prediction(model: TrainedModel, tmp_path: Path) -> None:
    with_table = write(tmp_path, HEADER, "a,dark.png,,,,")
    alone = write(tmp_path, "image", "dark.png", name="alone.csv")
    first, second = (
        predict(model, read_rows(p, model.schema, None), CPU) for p in (with_table, alone)
    )
    assert first.equals(second)


def test_a_multilabel_task_gives_a_chance_per_class_and_no_choice(
    model: TrainedModel, tmp_path: Path
) -> None:
    schema = model.schema.with_values({"task": "multilabel"})
    several = TrainedModel(
        method=model.method,
        run=model.run,
        schema=schema,
        statistics=model.statistics,
        scores=model.scores,
    )
    rows = read_rows(write(tmp_path, HEADER, "a,dark.png,1,2,red,flat"), schema, None)
    found = predict(several, rows, CPU)
    assert "prediction" not in found
    assert found.filter(like="p(").to_numpy().sum() != pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("class_names", ["class 0", "class 2", "class 1"]),
        ("numeric", ["weight", "length"]),
        ("image_size", 64),
        ("category", {"shape": ["flat", "round", "tall"], "colour": ["blue", "red"]}),
        ("category", {"colour": ["red", "blue"], "shape": ["flat", "round", "tall"]}),
    ],
)
def test_data_with_other_columns_or_classes_is_refused(
    model: TrainedModel, field: str, value: object
) -> None:
    other = model.schema.with_values({field: value, "content_hash": "another draw of rows"})
    with pytest.raises(DataError, match=f"the model has {field} "):
        model.refuse_other_data(packed_as(other))
    model.refuse_other_data(packed_as(model.schema.with_values({"content_hash": "other rows"})))


def packed_as(schema: Schema) -> PackedDataset:
    packed = object.__new__(PackedDataset)
    object.__setattr__(packed, "schema", schema)
    return packed


def test_a_class_without_positives_is_told_and_has_no_prauc() -> None:
    logits = np.log(np.array([[3, 1, 1], [1, 3, 1], [3, 1, 1]], dtype=np.float32))
    found = Predictions(
        ids=np.array(["a", "b", "c"], dtype=object),
        groups=np.array(["a", "b", "c"], dtype=object),
        split=np.array(["test"] * 3, dtype=object),
        label=np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=np.float32),
        present=np.ones((3, 2), dtype=bool),
        logits={"both": logits, "image": logits, "tabular": logits[::-1].copy()},
        class_names=("shock", "pleurisy", "rare"),
        task="multilabel",
    )
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(classes_table(found))
    text = console.export_text()
    assert "; 1 classes have no positives and are left out of the mean" in " ".join(text.split())
    lines = [line.split() for line in text.splitlines()]
    told = {line[1]: line[3::2] for line in lines if len(line) > 10}
    assert told["shock"] == ["2", "0.667", "1.000", "1.000", "1.000"]
    assert told["pleurisy"] == ["1", "0.333", "0.333", "0.333", "0.333"]
    assert told["rare"] == ["0", "0.000", "-", "-", "-"]


VOLUMES = {"image_kind": "volume", "image_size": 8}
SERIES = {"series": dict(EpisodeReader(hours=48).channels), "steps": 48}


def test_new_rows_may_name_scans_and_time_series(tmp_path: Path) -> None:
    scan = nibabel.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4))
    nibabel.save(scan, tmp_path / "head.nii")
    names = [variable.name for variable in VARIABLES]
    cells = ["80" if name == "Heart Rate" else "" for name in names]
    (tmp_path / "stay.csv").write_text(f"Hours,{','.join(names)}\n0.5,{','.join(cells)}\n")
    schema = SCHEMA.with_values({"numeric": [], "category": {}, **VOLUMES, **SERIES})
    lines = ["head.nii,stay.csv#3.5", ",stay.csv#2", "head.nii,"]
    rows = read_rows(write(tmp_path, "image,series", *lines), schema, None)
    assert rows.present(np.arange(3)).tolist() == [[True, True], [False, True], [True, False]]
    series, length = rows.time_series(np.arange(3))
    rate = list(schema.series).index("Heart Rate")
    assert length.tolist() == [4, 2, 0] and series[0, :5, rate].tolist() == [80, 80, 80, 80, 0]
    assert rows.image.shape == (3, 8, 8, 8) and rows.image[0].max() == 255
    with pytest.raises(DataError, match="a time series is given as <path>#<hours>"):
        read_rows(write(tmp_path, "image,series", "head.nii,stay.csv"), schema, None)
    other = schema.with_values({"series": {"x": "number"}})
    with pytest.raises(DataError, match="no format that can be read from files"):
        read_rows(write(tmp_path, "image,series", *lines), other, None)


def test_a_folder_without_a_model_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no model in {tmp_path}.*dfpl train best.json"):
        TrainedModel.load(Storage(tmp_path), CPU)
