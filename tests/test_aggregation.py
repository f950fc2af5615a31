"""CMA: the order of the evidence, the mean over what is there, and the mask of the attention."""

import pytest
import torch

from dfpl.aggregation import ROWS, ClassAwareAggregation, PlainFusion, Scale, gather_evidence
from dfpl.prototypes import Branch, Side

AVAILABLE = torch.tensor([[True, True], [True, False], [False, True]])


def branch(token: float, prototype: float) -> Branch:
    """Three samples whose t is `token` and whose two prototypes have the mean `prototype`."""
    pair = torch.tensor([prototype - 1.0, prototype + 1.0])
    return Branch(torch.full((3, 4), float(token)), pair.view(1, 2, 1).expand(3, 2, 4))


IMAGE = Side(shared=branch(20, 30), specific=branch(1, 2), present=AVAILABLE[:, 0])
TABULAR = Side(shared=branch(40, 50), specific=branch(5, 6), present=AVAILABLE[:, 1])


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        # t_specific, p_specific of the image; t_shared, p_shared; those of the table
        ("both", [[1, 2, 30, 40, 5, 6], [1, 2, 20, 30, 0, 0], [0, 0, 40, 50, 5, 6]]),
        ("global", [[1, 30, 5], [1, 20, 0], [0, 40, 5]]),
        ("prototype", [[2, 40, 6], [2, 30, 0], [0, 50, 6]]),
    ],
)
def test_rows_of_evidence_by_hand(scale: Scale, expected: list[list[float]]) -> None:
    evidence, visible = gather_evidence(IMAGE, TABULAR, AVAILABLE, scale)
    assert evidence[..., 0].tolist() == expected
    assert torch.equal(evidence, evidence[..., :1].expand(3, ROWS[scale], 4))
    assert visible.tolist() == [[value != 0 for value in row] for row in expected]


def test_nothing_absent_reaches_the_evidence() -> None:
    lost = torch.full((3, 4), torch.nan)
    image = IMAGE._replace(shared=Branch(lost, lost[:, None]), specific=Branch(lost, lost[:, None]))
    only_tables = torch.tensor([[False, True]] * 3)
    evidence, _ = gather_evidence(image, TABULAR, only_tables, "both")
    assert evidence[:, :, 0].tolist() == [[0, 0, 40, 50, 5, 6]] * 3


def aggregation() -> ClassAwareAggregation:
    torch.manual_seed(0)
    return ClassAwareAggregation(num_classes=3, width=4)


def test_attention_of_what_is_absent_is_exactly_zero() -> None:
    evidence, visible = gather_evidence(IMAGE, TABULAR, AVAILABLE, "both")
    _, attention = aggregation()(evidence, visible)
    assert (attention > 0).tolist() == visible[:, None].expand(3, 3, 6).tolist()
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(3, 3))


def test_what_stands_in_an_absent_row_changes_no_logit() -> None:
    evidence, visible = gather_evidence(IMAGE, TABULAR, AVAILABLE, "both")
    other = torch.where(visible[..., None], evidence, 1e4)
    model = aggregation()
    assert torch.equal(model(evidence, visible)[0], model(other, visible)[0])


def test_logits_by_hand() -> None:
    # one visible row per sample: each class finds that row, whatever its query
    model = aggregation()
    with torch.no_grad():
        model.attention.value.weight.copy_(torch.eye(4))
        model.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [1.0, 1.0, 1.0, 1.0]]))
        model.bias.copy_(torch.tensor([0.0, 10.0, 100.0]))
    evidence = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [9.0, 9.0, 9.0, 9.0]]])
    logits, _ = model(evidence, torch.tensor([[True, False]]))
    torch.testing.assert_close(logits, torch.tensor([[1.0, 12.0, 110.0]]))


def test_a_class_reads_its_own_query_only() -> None:
    evidence, visible = torch.randn(2, 6, 4), torch.ones(2, 6, dtype=torch.bool)
    model = aggregation()
    before = model(evidence, visible)[0]
    with torch.no_grad():
        model.queries[1] += 1
    changed = (model(evidence, visible)[0] != before).all(dim=0)
    assert changed.tolist() == [False, True, False]


def test_plain_fusion_by_hand() -> None:
    evidence = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    visible = torch.ones(1, 3, dtype=torch.bool)
    concat, add = PlainFusion("concat", 3, 1, 2), PlainFusion("add", 3, 1, 2)
    with torch.no_grad():
        for model in (concat, add):
            model.classify.bias.zero_()
        concat.classify.weight.copy_(torch.tensor([[1.0, 10, 100, 1e3, 1e4, 1e5]]))
        add.classify.weight.copy_(torch.tensor([[1.0, 100.0]]))
    assert concat(evidence, visible)[0].item() == 654321
    assert add(evidence, visible)[0].item() == 9 + 1200
