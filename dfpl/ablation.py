"""The ablations of the paper (section IV-B): the rows of Tables II to V as changes of the config.

The rows build on each other, as their numbers in the paper say:

    baseline         L_cls + alpha L_cssm, token means concatenated
    SSPM             with prototypes, L_div and L_pdis; both scales concatenated   = III, K = 5
    SSPM, PFA        with L_pali and L_cali                                        = IV, both losses
    SSPM, PFA, CMA   with CMA in place of concatenation: the whole DFPL            = V, CMA

So Table III is without PFA and CMA, and Table IV without CMA; its class prototypes are compared
under L_cali alone, whose value is that of `both` there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FULL: dict[str, Any] = {
    "method.prototypes": True,
    "method.diversity": True,
    "method.distribution_alignment": True,
    "method.semantic_alignment": True,
    "method.class_prototypes": "gated",
    "method.fusion": "cma",
    "method.scale": "both",
}
"""The switches of the whole model; every row sets them all."""


@dataclass(frozen=True, kw_only=True)
class Row:
    group: str
    """Rows that are compared with each other."""
    name: str
    values: Mapping[str, Any]
    """What it sets in the base run, by dotted name."""
    against: str = ""
    """Name of the row of its group that it is compared with."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One table of the paper."""

    name: str
    title: str
    rows: list[Row]
    compared_with: str
    """What `against` is, in words."""


def _with(values: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {**values, **{f"method.{name}": value for name, value in changes.items()}}


WITH_PFA = _with(FULL, fusion="concat")
WITH_SSPM = _with(WITH_PFA, distribution_alignment=False, semantic_alignment=False)
BASELINE = _with(WITH_SSPM, prototypes=False, scale="global")
CALI_ALONE = _with(WITH_PFA, distribution_alignment=False)


def _rows(group: str, against: str, values: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Rows of one group, of which all others are compared with one."""
    return [
        Row(group=group, name=name, values=own, against="" if name == against else against)
        for name, own in values.items()
    ]


TABLE2 = Ablation(
    name="table2",
    title="Table II: SSPM, PFA and CMA, added one by one",
    rows=[
        Row(group="components", name="baseline", values=BASELINE),
        Row(group="components", name="SSPM", values=WITH_SSPM, against="baseline"),
        Row(group="components", name="SSPM, PFA", values=WITH_PFA, against="SSPM"),
        Row(group="components", name="SSPM, PFA, CMA", values=FULL, against="SSPM, PFA"),
    ],
    compared_with="the row above",
)
TABLE3 = Ablation(
    name="table3",
    title="Table III: SSPM",
    rows=[
        *_rows(
            "diversity",
            "with L_div",
            {"without L_div": _with(WITH_SSPM, diversity=False), "with L_div": WITH_SSPM},
        ),
        *_rows(
            "prototypes",
            "K = 5",
            {f"K = {k}": _with(WITH_SSPM, num_prototypes=k) for k in (3, 5, 10, 15)},
        ),
    ],
    compared_with="the paper's choice in the same group",
)
TABLE4 = Ablation(
    name="table4",
    title="Table IV: PFA",
    rows=[
        *_rows(
            "losses",
            "L_pali and L_cali",
            {
                "L_pali": _with(WITH_PFA, semantic_alignment=False),
                "L_cali": CALI_ALONE,
                "L_pali and L_cali": WITH_PFA,
            },
        ),
        *_rows(
            "class prototypes",
            "both",
            {
                "global": _with(CALI_ALONE, class_prototypes="global"),
                "prototype": _with(CALI_ALONE, class_prototypes="prototype"),
                "both": CALI_ALONE,
            },
        ),
    ],
    compared_with="the paper's choice in the same group",
)
TABLE5 = Ablation(
    name="table5",
    title="Table V: CMA",
    rows=[
        *_rows(
            "fusion",
            "CMA",
            {"concatenation": WITH_PFA, "addition": _with(FULL, fusion="add"), "CMA": FULL},
        ),
        *_rows(
            "scale",
            "multi-scale",
            {
                "global": _with(FULL, scale="global"),
                "prototype": _with(FULL, scale="prototype"),
                "multi-scale": FULL,
            },
        ),
    ],
    compared_with="the paper's choice in the same group",
)
