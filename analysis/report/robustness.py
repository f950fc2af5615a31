"""Section 3: what is to be expected when other modalities are absent, more or less often."""

from collections.abc import Sequence

from analysis.curves import MISSING, bounded
from analysis.report.blocks import Block, chart, percents, section, text
from analysis.report.scores import RATES, Scored
from analysis.report.study import Study
from dfpl.data.scenario import Pattern, Scenario
from dfpl.predictions import num_hidden

ORDER: tuple[Pattern, ...] = ("both", "image", "tabular")


def build(study: Study, scored: Sequence[Scored]) -> Block:
    exact = "the mean of 100 draws" if study.metric == "prauc" else "exact"
    how = (
        "Move the rate: lines are the test scores expected if that share of the complete samples "
        f"lost a modality ({exact}, from the stored predictions; nothing is trained again), bands "
        "are 95 % intervals (masks and bootstrap over groups)."
    )
    shown = [own for own in scored if own.drawn]
    if not shown:
        return section("robustness", "Robustness", how, [text("No predictions are stored.")])
    sizes = list(dict.fromkeys((own.n, own.num_complete) for own in shown))
    drawing = chart(
        "robustness",
        "Expected score over the missing rate",
        y=f"{study.metric_words} on test (%)",
        rates=[round(100 * rate) for rate in RATES],
        patterns=[{"id": pattern, "name": MISSING[pattern]} for pattern in ORDER],
        sizes=[_size(n, complete) for n, complete in sizes],
        trained=list(dict.fromkeys(own.line.scenario for own in shown)),
        lines=[_line(own, sizes.index((own.n, own.num_complete))) for own in shown],
    )
    return section("robustness", "Robustness", how, [drawing])


def _size(n: int, complete: int) -> Block:
    """How many images and tables a scenario hides of these test samples."""
    hidden = {
        pattern: [num_hidden(Scenario(pattern=pattern, rate=rate), complete) for rate in RATES]
        for pattern in ORDER
    }
    return {"n": n, "complete": complete, "hidden": hidden}


def _line(own: Scored, size: int) -> Block:
    mean = own.mean
    curves = {}
    for pattern in ORDER:
        scenarios = [str(Scenario(pattern=pattern, rate=rate)) for rate in RATES]
        curves[pattern] = percents([bounded(mean[own.places[name]]) for name in scenarios])
    return {
        "label": own.line.label,
        "trained": own.line.scenario,
        "look": own.line.look,
        "seeds": len(own.drawn),
        "size": size,
        "curves": curves,
    }
