"""What all methods of a comparison have in common: the encoders."""

from dfpl.config import MethodConfig
from dfpl.method import load

ENCODERS = (
    "width",
    "image_network",
    "tabular_heads",
    "tabular_shared_depth",
    "tabular_branch_depth",
    "tabular_depth",
    "encode_missing",
)
"""Fields that say what encoders are like, under the same names in every method's config."""


def with_encoders_of(config: MethodConfig, name: str) -> MethodConfig:
    """The method `name` as its own paper has it, but with the encoders of `config`.

    Where its table is encoded without branches, it gets as many blocks as a sample passes in
    `config`: the shared ones and those of a branch.
    """
    if name == config.name:
        return config
    wanted, have = load(name).Config, config.to_dict()
    if {"tabular_shared_depth", "tabular_branch_depth"} <= have.keys():
        have["tabular_depth"] = have["tabular_shared_depth"] + have["tabular_branch_depth"]
    values = {field: have[field] for field in ENCODERS if field in have}
    known = {field: value for field, value in values.items() if field in wanted.model_fields}
    return wanted.from_dict({"name": name, **known}, prefix="method.")
