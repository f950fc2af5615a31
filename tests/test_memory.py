"""The estimate of memory: by hand, and against what autograd keeps when something is computed."""

from typing import Any

import pytest
import torch
from samples import SCHEMA, make_batch, make_config, make_packed, make_run

from dfpl import method as methods
from dfpl.memory import SavedBytes, empty_batch, estimate
from dfpl.method import build

PACKED = make_packed()


def run(**values: Any) -> Any:
    return make_run(PACKED, **values)


def test_kept_bytes_count_each_storage_once_and_no_weight() -> None:
    weight, value = torch.randn(8, 8, requires_grad=True), torch.randn(4, 8)
    with SavedBytes([weight]) as saved:
        (value @ weight).exp().mul(value).sum()
    assert saved.total == 2 * 4 * 8 * 4  # `value`, kept twice, and the result of exp


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_estimated(name: str) -> None:
    run = make_run(PACKED, method=make_config(name).to_dict(), optim__batch_size=8)
    found = estimate(run, SCHEMA)
    assert found.total >= found.batch > 0
    assert (found.model > 0) == (name != "forest")


@pytest.mark.parametrize("name", ["dfpl", "dmrnet"])
def test_what_is_counted_without_content_is_what_encoders_keep(name: str) -> None:
    method = {"name": name, "width": 16, "image_network": "small", "tabular_heads": 2}
    found = estimate(run(method=method, optim__batch_size=8), SCHEMA)
    model: Any = build(run(method=method).method, SCHEMA)
    batch = make_batch([(1, 1)] * 8)
    kept = 0
    for encoder, inputs in (
        (model.image_encoder, (batch.image,)),
        (model.tabular_encoder, (batch.numeric, batch.category, batch.series, batch.length)),
    ):
        with SavedBytes([*encoder.parameters(), *batch]) as saved:
            encoder._encode(*inputs)
        kept += saved.total
    assert found.activations == pytest.approx(kept, rel=0.02)
    assert found.model == 16 * sum(p.numel() for p in model.parameters())
    assert found.batch == sum(part.nbytes for part in batch)


def test_activations_are_shared_out_to_the_workers_and_the_model_is_not() -> None:
    whole, half = (estimate(run(optim__batch_size=16), SCHEMA, workers) for workers in (1, 2))
    assert half.model == whole.model
    assert half.activations == pytest.approx(whole.activations / 2, rel=0.01)


def test_the_paper_sized_volume_is_told_in_seconds() -> None:
    """ResNet-50 of three dimensions on 16 volumes of 128^3: its first map alone, kept by the
    normalisation and the activation after it, is 2 x 16 x 64 x 64^3 numbers."""
    schema = SCHEMA.with_values({"image_kind": "volume", "image_size": 128})
    method = {"name": "dfpl", "width": 512, "image_network": "resnet50"}
    found = estimate(run(method=method, optim__batch_size=16), schema)
    assert 2 * 16 * 64 * 64**3 * 4 < found.activations < 80e9
    assert "at least" in str(found) and str(found).count("GB") == 3
    assert empty_batch(schema, 16).image.shape == (16, 1, 128, 128, 128)
