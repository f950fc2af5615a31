"""What the paper leaves open, compared on data: the prototypes' norm, the form of the divergence,
the classification loss, and whether absent modalities are encoded.

Run       python studies/open_choices.py --table ham10000/table.csv --images ham10000 \\
              --label label --group lesion_id --exclude dx_type
Makes     runs/open_choices/: records/, epochs/, predictions/ of 6 configs x seeds in both-50 and
          2 configs x seeds in image-70
Read by   python -m analysis.open_choices runs/open_choices
Paper     leaves these open; its literal form, LITERAL, is what the others are compared with
"""

from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.study.plan import table_plan
from dfpl.study.run import sweep_main

BASE = {
    "metric": "balanced_accuracy",
    "source.image_size": 64,
    "method.image_network": "small",
    "method.width": 64,
    "method.tabular_heads": 4,
    "optim.batch_size": 64,
    "optim.epochs": 10,
    "optim.learning_rate": 1e-3,
}
CHANGES = [
    {},
    {"method.prototype_norm": "layernorm"},
    {"method.prototype_norm": "l2"},
    {"method.jsd": "softmax"},
    {"method.task_loss": "ce"},
    {"method.encode_missing": "skip"},
]
"""The literal form, then one change at a time."""
ENCODE_MISSING = [{"method.encode_missing": way} for way in ("zeros", "skip")]
LITERAL = {
    "method.prototype_norm": "none",
    "method.jsd": "sigmoid",
    "method.task_loss": "bce",
    "method.encode_missing": "zeros",
}


def runs(base: RunConfig) -> list[RunConfig]:
    """All choices in both-50; the last, which matters more the more is absent, in image-70 too."""
    base = base.with_values(LITERAL)
    return [
        base.with_values({"scenario": Scenario.parse(scenario).to_dict(), **change})
        for scenario, changes in (("both-50", CHANGES), ("image-70", ENCODE_MISSING))
        for change in changes
    ]


if __name__ == "__main__":
    plan = table_plan("open_choices", BASE)
    sweep_main(plan, lambda base, _: runs(base), read_by="analysis.open_choices")
