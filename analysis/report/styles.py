"""How lines look in the report: Plotly's names for analysis/style.py, and for several configs."""

from analysis.style import DASH_DOT_DOT, LONG, style_of

Look = dict[str, str]
DASHES = {
    "-": "solid",
    "--": "dash",
    "-.": "dashdot",
    ":": "dot",
    LONG: "longdash",
    DASH_DOT_DOT: "longdashdot",
}
SYMBOLS = {
    **{"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down"},
    **{"P": "cross", "X": "x", "<": "triangle-left", ">": "triangle-right", "h": "hexagon"},
    **{
        "p": "pentagon",
        "*": "star",
        "d": "diamond-tall",
        "x": "x-thin-open",
        "+": "cross-thin-open",
    },
}
PAPER: Look = {"colour": "#6b7280", "dash": "dash", "symbol": "square"}
"""The paper's point beside what a search found."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#7a5195", "#555555")
"""Of several configs of one method, after Okabe and Ito."""


def of_method(method: str) -> Look:
    colour, marker, line = style_of(method)
    return {"colour": colour, "dash": DASHES[line], "symbol": SYMBOLS[marker]}


def of_config(place: int) -> Look:
    """The configs of one method differ in colour, then in line, so that grey tells them apart."""
    dashes, symbols = list(DASHES.values()), list(SYMBOLS.values())
    return {
        "colour": COLOURS[place % len(COLOURS)],
        "dash": dashes[(place + place // len(COLOURS)) % len(dashes)],
        "symbol": symbols[place % len(symbols)],
    }
