"""How each method looks in every figure: its colour, marker and kind of line, never another's.

Markers and lines differ, too, so that a figure can be read in grey. A method without an entry here
is grey.
"""

from typing import Any, NamedTuple


class Style(NamedTuple):
    colour: str
    marker: str
    line: str | tuple[int, tuple[float, ...]]
    """As matplotlib takes it: a name, or (offset, lengths of strokes and gaps)."""

    def of_line(self) -> dict[str, Any]:
        """As arguments of a line."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.line}


LONG, DASH_DOT_DOT = (0, (7.0, 2.0)), (0, (4.0, 1.5, 1.0, 1.5, 1.0, 1.5))
STYLES = {
    "dfpl": Style("#d7191c", "o", "-"),
    "drfuse": Style("#1f4e9c", "s", "--"),
    "shaspec": Style("#2ca25f", "^", "-."),
    "dmrnet": Style("#e08214", "D", ":"),
    "im_fuse": Style("#7b3fa0", "v", LONG),
    "stil": Style("#17a2b8", "P", DASH_DOT_DOT),
    "if_mmin": Style("#8c5a2b", "X", "--"),
    "tip": Style("#e377c2", "<", "-."),
    "masked_transformer": Style("#6b6b00", ">", ":"),
    "late_fusion": Style("#0b5d5d", "h", LONG),
    "router": Style("#4d4d4d", "p", DASH_DOT_DOT),
    "forest": Style("#a6bd2f", "*", "--"),
    "image_only": Style("#8fa8d0", "d", "-."),
    "table_only": Style("#c9a27a", "x", ":"),
}
OTHER = Style("#999999", "+", "-")


def style_of(method: str) -> Style:
    return STYLES.get(method, OTHER)
