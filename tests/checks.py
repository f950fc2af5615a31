"""What the tests of several methods assert of a method."""

import torch
from samples import SCHEMA, make_batch

from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.method import Method, objective


def assert_all_learn(method: Method, batch: Batch) -> None:
    """Every parameter gets a gradient from this batch."""
    objective(method, method.losses(method(batch), batch)).backward()
    assert not [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]


def assert_one_pass_equals_three(method: Method, schema: Schema = SCHEMA) -> None:
    """A method's own one pass over the states says what three forward passes say."""
    method.eval()
    batch = make_batch([(1, 1)] * 4, schema=schema)
    naive = Method.state_logits(method, batch)
    for state, logits in method.state_logits(batch).items():
        torch.testing.assert_close(logits, naive[state], rtol=1e-5, atol=1e-6)
