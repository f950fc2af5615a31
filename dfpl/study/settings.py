"""Settings of the base run by data set: those of the paper's experiments (section IV), and ours."""

from dfpl.study.plan import Plan

DVM = {
    "method.width": 512,
    "method.image_network": "resnet50",
    "method.task_loss": "bce",
    "optim.batch_size": 256,
    "optim.epochs": 100,
    "metric": "accuracy",
}
DVM_TWIN = {
    "source.image_size": 32,
    "method.width": 32,
    "method.image_network": "small",
    "method.tabular_heads": 4,
    "method.tabular_shared_depth": 1,
    "method.tabular_branch_depth": 1,
    "optim.batch_size": 16,
    "optim.epochs": 18,
    "optim.learning_rate": 3e-3,
}
OWN_TABLE = {"metric": "balanced_accuracy", "method.width": 256, "optim.batch_size": 64}
"""For a user's own table and images, of which the paper says nothing."""


MIMIC = {
    "method.width": 256,
    "method.image_network": "resnet50",
    "method.tabular_shared_depth": 1,
    "method.tabular_branch_depth": 1,
    "optim.batch_size": 16,
    "optim.epochs": 100,
    "metric": "prauc",
}
"""Depths as in DrFuse, whose encoder of time series the paper follows."""
MIMIC_TWIN = {
    "source.image_size": 48,
    "method.width": 32,
    "method.image_network": "small",
    "method.tabular_heads": 4,
    "optim.epochs": 12,
    "optim.learning_rate": 1e-3,
}
ADNI = {
    "method.width": 512,
    "method.image_network": "resnet50",
    "method.task_loss": "bce",
    "optim.batch_size": 16,
    "optim.epochs": 100,
    "metric": "accuracy",
}
ADNI_TWIN = {
    "source.image_size": 24,
    "method.width": 32,
    "method.image_network": "small",
    "method.tabular_heads": 4,
    "method.tabular_shared_depth": 1,
    "method.tabular_branch_depth": 1,
    "optim.epochs": 12,
    "optim.learning_rate": 1e-3,
}
OF_SOURCE = {"dvm": (DVM, DVM_TWIN), "mimic": (MIMIC, MIMIC_TWIN), "adni": (ADNI, ADNI_TWIN)}
"""By the paper's data sets: its settings, and those for a look-alike."""


def paper_plan(name: str, source: str) -> Plan:
    """A study on one of the paper's data sets with its settings; without data, a small one on a
    look-alike."""
    base, on_twin = OF_SOURCE[source]
    return Plan(name=name, source=source, base=base, on_twin=on_twin)
