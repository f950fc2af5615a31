"""What logits are read from: the contract of `readout`, and the file that figures read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from samples import MIXED, make_batch, make_config, make_method, make_packed, make_run, stages

from dfpl import method as methods
from dfpl.aggregation import ClassAwareAggregation
from dfpl.baselines.drfuse import ClassWiseAttention
from dfpl.data.batch import Batch
from dfpl.data.loader import Loader, View
from dfpl.data.packed import DataError, PackedDataset
from dfpl.evaluate import logits_in_states, save_representations
from dfpl.fields import ConfigError
from dfpl.method import STATES, Method, Readout
from dfpl.metrics import probabilities
from dfpl.predictions import State
from dfpl.representations import Facts, Part, Shown, read, write

CPU = torch.device("cpu")
OF_CLASS = ("dfpl", "drfuse")
POOLED = ("dmrnet", "if_mmin", "im_fuse", "masked_transformer", "shaspec", "stil", "tip")
NOTHING = {"forest", "image_only", "late_fusion", "router", "table_only"}
PLAIN = {"dfpl-concat": "concat", "dfpl-add": "add"}


@pytest.fixture(scope="module", params=[*OF_CLASS, *POOLED, *PLAIN])
def method(request: pytest.FixtureRequest) -> Method:
    """Each method that has one, in its last stage, with weights that are not as new."""
    name, _, _ = request.param.partition("-")
    fusion = {"fusion": PLAIN[request.param]} if request.param in PLAIN else {}
    found = make_method(name, stages(name)[-1][1], **fusion).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return found


@torch.no_grad()
def readout(method: Method, batch: Batch) -> Readout:
    found = method.readout(batch)
    assert found is not None
    return found


# The contract


def test_every_method_has_a_readout_or_is_known_to_have_none() -> None:
    """A method added later belongs to one of these."""
    assert {*OF_CLASS, *POOLED, *NOTHING} == set(methods.names())
    batch = make_batch(MIXED)
    for name in NOTHING:
        assert make_method(name, 0).eval().readout(batch) is None


@torch.no_grad()
def test_it_is_what_the_logits_are_made_from(method: Method) -> None:
    batch = make_batch(MIXED)
    found = readout(method, batch)
    assert torch.equal(found.logits, method(batch).logits)
    if (layer := method.final_layer()) is not None:
        torch.testing.assert_close(layer(found.vectors), found.logits)
        return
    head = method.aggregation if hasattr(method, "aggregation") else method.attention.classify  # pyright: ignore
    best = found.logits.argmax(dim=1)
    read = (head.weight[best] * found.vectors).sum(dim=1) + head.bias[best]  # pyright: ignore
    torch.testing.assert_close(read, found.logits.max(dim=1).values)


def test_attention_is_of_all_classes_and_sums_to_one_over_what_is_there(method: Method) -> None:
    batch = make_batch(MIXED)
    attention, rows = readout(method, batch).attention, method.attended()
    if not rows:
        assert attention is None
        return
    assert attention is not None and attention.shape == (len(MIXED), 3, len(rows))
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(len(MIXED), 3))
    for column, modality in enumerate(("image", "tabular")):
        own = torch.tensor([row.startswith(modality) for row in rows])
        hidden = ~batch.available[:, column, None] & own
        there = attention > 0
        assert not there[hidden[:, None].expand_as(there)].any()
    assert (attention[batch.available.all(dim=1)] > 0).all()


def test_it_does_not_depend_on_the_batch_or_on_labels(method: Method) -> None:
    batch = make_batch(MIXED)
    together = readout(method, batch)
    alone = [readout(method, Batch(*(x[i : i + 1] for x in batch))) for i in range(len(MIXED))]
    other = readout(method, batch._replace(label=(batch.label + 1) % 3))
    assert torch.equal(other.vectors, together.vectors)
    torch.testing.assert_close(
        torch.cat([own.vectors for own in alone]), together.vectors, rtol=1e-5, atol=1e-6
    )
    if together.attention is not None:
        parts = [own.attention for own in alone if own.attention is not None]
        torch.testing.assert_close(torch.cat(parts), together.attention, rtol=1e-5, atol=1e-6)


def test_a_missing_modality_is_never_read(method: Method) -> None:
    batch = make_batch(MIXED)
    absent = ~batch.available
    spoiled = batch._replace(
        image=batch.image.masked_fill(absent[:, :1, None, None], torch.nan),
        numeric=batch.numeric.masked_fill(absent[:, 1:], torch.nan),
        category=batch.category.masked_fill(absent[:, 1:], 3),
    )
    clean, found = readout(method, batch), readout(method, spoiled)
    assert torch.equal(found.vectors, clean.vectors) and found.vectors.isfinite().all()
    assert (found.attention is None) == (clean.attention is None)
    if found.attention is not None and clean.attention is not None:
        assert torch.equal(found.attention, clean.attention)


def test_looking_leaves_nothing_behind(method: Method) -> None:
    readout(method, make_batch(MIXED))
    assert not any(module._forward_pre_hooks for module in method.modules())


@torch.no_grad()
def test_the_vector_of_a_class_of_dfpl_by_hand() -> None:
    """W_v = 2 I; rows (1, 0), (0, 1); class 1 looks at them with 1/4 and 3/4: 2 (1/4, 3/4)."""
    cma = ClassAwareAggregation(2, 2)
    cma.attention.value.weight.copy_(2 * torch.eye(2))
    attention = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    found = cma.found_by(attention, torch.eye(2)[None], torch.tensor([1]))
    assert found.tolist() == [[0.5, 1.5]]


@torch.no_grad()
def test_the_vector_of_a_class_of_drfuse_by_hand() -> None:
    """As above with a bias of (1, -1), which is added once."""
    fusion = ClassWiseAttention(2, 2)
    fusion.value.weight.copy_(2 * torch.eye(2))
    fusion.value.bias.copy_(torch.tensor([1.0, -1.0]))
    slots = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])
    attention = torch.tensor([[[0.0, 0.0, 1.0], [0.25, 0.75, 0.0]]])
    assert fusion.found_by(attention, slots, torch.tensor([1])).tolist() == [[1.5, 0.5]]


@pytest.mark.parametrize(
    ("scale", "rows"),
    [
        ("global", ("image specific global", "shared global", "tabular specific global")),
        (
            "both",
            (
                *("image specific global", "image specific prototypes"),
                *("shared global", "shared prototypes"),
                *("tabular specific global", "tabular specific prototypes"),
            ),
        ),
    ],
)
def test_the_names_of_the_evidence_are_in_its_order(scale: str, rows: tuple[str, ...]) -> None:
    """The order that `gather_evidence` documents, whose visibility the contract above checks."""
    assert make_method("dfpl", 0, scale=scale).attended() == rows


# The file


def with_gaps(private: bool = False) -> PackedDataset:
    """15 samples of the test split: two lack the image, two the table."""
    packed = make_packed(60)
    rows, sample = packed.rows("test"), packed.sample.copy()
    sample.loc[rows[:2], "has_image"] = False
    sample.loc[rows[2:4], "has_table"] = False
    schema = packed.schema.with_values({"private": private, "content_hash": "abc"})
    return replace(packed, sample=sample, schema=schema)


PACKED = with_gaps()
STATISTICS = View.of(PACKED, "train").statistics()


def loader_of(packed: PackedDataset, batch_size: int = 4) -> Loader:
    return Loader(View.of(packed, "test"), STATISTICS, batch_size, CPU)


def save(path: Path, name: str, packed: PackedDataset = PACKED) -> Method:
    method = make_method(name, stages(name)[-1][1])
    run = make_run(packed, method=make_config(name).to_dict())
    assert save_representations(path, run, method, loader_of(packed), "test") == 15
    return method


@pytest.mark.parametrize("name", ["dfpl", "drfuse", "tip"])
def test_the_file_holds_every_row_that_can_be_in_a_state(name: str, tmp_path: Path) -> None:
    method = save(tmp_path / "file.parquet", name)
    rows = PACKED.rows("test")
    logits = logits_in_states(method, loader_of(PACKED, 15))
    states: dict[State, list[int]] = {
        "both": list(range(4, 15)),
        "image": list(range(2, 15)),
        "tabular": [0, 1, *range(4, 15)],
    }
    for state, there in states.items():
        found = read(tmp_path / "file.parquet", state)
        assert found.place.tolist() == there and found.num_rows == 15 and len(found) == len(there)
        assert found.ids.tolist() == found.groups.tolist() == PACKED.ids(rows[there])
        np.testing.assert_array_equal(found.label, PACKED.label[rows[there]])
        expected = probabilities(logits[state][there], "multiclass")
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
        assert np.isfinite(found.vectors).all()
        assert (found.attention is None) == (name == "tip")
    assert found.facts.method == name and found.facts.scenario == "both-50"
    assert found.facts.class_names == PACKED.schema.class_names


def test_attention_and_vectors_are_those_of_the_readout(tmp_path: Path) -> None:
    method = save(tmp_path / "file.parquet", "dfpl")
    found = read(tmp_path / "file.parquet", "image")
    _, batch = next(loader_of(PACKED, 15).in_order())
    left = batch.available & torch.tensor(STATES["image"])
    expected = readout(method, batch._replace(available=left))
    assert found.attention is not None and expected.attention is not None
    assert found.attention.shape == (13, 3, 6)
    np.testing.assert_allclose(found.attention, expected.attention[2:], atol=5e-4)
    np.testing.assert_allclose(found.vectors, expected.vectors[2:], atol=1e-5)
    assert found.facts.visible("image") == [True] * 4 + [False] * 2
    assert found.facts.visible("tabular") == [False] * 2 + [True] * 4
    assert found.facts.visible("both") == [True] * 6
    visible = (found.attention > 0).any(axis=(0, 1))
    assert visible.tolist() == found.facts.visible("image")


def test_several_labels_are_kept(tmp_path: Path) -> None:
    packed = make_packed(60)
    several = (packed.label[:, None] == np.arange(3)).astype(np.float32)
    schema = packed.schema.with_values({"task": "multilabel"})
    packed = replace(packed, label=several, schema=schema)
    method = make_method("dfpl", 0, task="multilabel")
    run, path = make_run(packed), tmp_path / "file.parquet"
    save_representations(path, run, method, loader_of(packed), "test")
    found = read(path, "both")
    np.testing.assert_array_equal(found.label, several[packed.rows("test")])
    logits = logits_in_states(method, loader_of(packed))["both"]
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_files_of_people_name_nobody(tmp_path: Path) -> None:
    packed = with_gaps(private=True)
    for name in ("open", "private"):
        save(tmp_path / f"{name}.parquet", "drfuse", packed if name == "private" else PACKED)
    content = (tmp_path / "private.parquet").read_bytes()
    for name in {*packed.sample["id"], *packed.sample["group"]}:
        assert name.encode() not in content
    known, hidden = (read(tmp_path / f"{name}.parquet", "both") for name in ("open", "private"))
    np.testing.assert_array_equal(known.vectors, hidden.vectors)
    assert hidden.ids.tolist() == hidden.groups.tolist() != known.ids.tolist()


def test_a_method_without_a_vector_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="late_fusion reads its logits from no vector"):
        save(tmp_path / "file.parquet", "late_fusion")
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    for problem in (lambda: None, lambda: other.write_bytes(b"no parquet")):
        problem()
        with pytest.raises(DataError, match=r"holds no representations .*--save-representations"):
            read(other, "both")
    save(tmp_path / "file.parquet", "drfuse")
    table = pq.read_table(tmp_path / "file.parquet")
    pq.write_table(table.replace_schema_metadata({"dfpl": '{"format": 1}'}), other)
    with pytest.raises(DataError, match="holds no representations"):
        read(other, "both")


def facts(**values: object) -> Facts:
    return Facts.from_dict(
        {
            **{"method": "dfpl", "run_id": "r", "scenario": "both-50", "dataset": "d"},
            **{"data_hash": "h", "split": "val", "task": "multiclass", "class_names": ["a"]},
            **{"rows": [], **values},
        }
    )


def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    def parts():
        one = np.ones((1, 1), dtype=np.float32)
        names = np.array(["x"], dtype=object)
        yield Part(
            names, names, np.zeros(1, dtype=np.int64), {s: Shown(one, one, None) for s in STATES}
        )
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write(tmp_path / "file.parquet", facts(), parts())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="the val split has no rows"):
        write(tmp_path / "file.parquet", facts(), [])
