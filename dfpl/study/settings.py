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


def dvm_plan(name: str) -> Plan:
    """A study on DVM-CAR with the paper's settings; without data, one on a small look-alike."""
    return Plan(name=name, source="dvm", base=DVM, on_twin=DVM_TWIN)
