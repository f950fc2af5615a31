"""Tables as Markdown, LaTeX and HTML: what is best is bold, what is as good is marked."""

import html as web
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from dfpl.fields import ConfigError
from dfpl.predictions import PredictionError

MARK = "°"
Format = Literal["markdown", "latex", "html"]
TEX = {
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    MARK: r"$^{\circ}$",
}


class Cell(NamedTuple):
    text: str
    best: bool = False
    """Of its scenario."""
    as_good: bool = False
    """Not significantly worse than the best."""
    beside: str = ""
    """What follows, neither bold nor marked."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One without rows is its title and its notes."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)


def turned(table: Table, names: int) -> Table:
    """Rows as columns; the first `names` cells of a row become the head of its column."""
    heads = [" ".join(cell.text for cell in row[:names]) for row in table.rows]
    columns = zip(*(row[names:] for row in table.rows), strict=True)
    return replace(
        table,
        header=["", *heads],
        rows=[
            [Cell(name), *cells] for name, cells in zip(table.header[names:], columns, strict=True)
        ],
    )


def markdown(table: Table) -> str:
    def shown(cell: Cell) -> str:
        text, beside = (
            _escaped(part, {"|": r"\|", "\n": " "}) for part in (cell.text, cell.beside)
        )
        return f"{_bold(text, cell, '**{}**')}{_mark(cell)}{beside}"

    lines = [[_escaped(name, {"|": r"\|"}) for name in table.header], ["---"] * len(table.header)]
    lines += [[shown(cell) for cell in row] for row in table.rows]
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([f"**{table.title}**", *([grid] if table.rows else []), *table.notes])


def latex(table: Table) -> str:
    """A table environment; needs no package."""

    def shown(cell: Cell) -> str:
        text, mark, beside = (_escaped(part, TEX) for part in (cell.text, _mark(cell), cell.beside))
        return _bold(text, cell, r"\textbf{{{}}}") + mark + beside

    def line(cells: list[str]) -> str:
        return f"{' & '.join(cells)} \\\\"

    columns = "l" * len(table.header)
    notes = [f"{_escaped(note, TEX)} \\\\" for note in table.notes]
    if not table.rows:
        return "\n".join([rf"\textbf{{{_escaped(table.title, TEX)}}} \\", *notes])
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escaped(table.title, TEX)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\hline",
            line([_escaped(name, TEX) for name in table.header]),
            r"\hline",
            *(line([shown(cell) for cell in row]) for row in table.rows),
            r"\hline",
            r"\end{tabular} \\",
            *notes,
            r"\end{table}",
        ]
    )


def html(table: Table) -> str:
    def line(cells: list[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"

    def shown(cell: Cell) -> str:
        text, beside = web.escape(cell.text), web.escape(cell.beside)
        return f"{_bold(text, cell, '<b>{}</b>')}{_mark(cell)}{beside}"

    notes = [f"<p>{web.escape(note)}</p>" for note in table.notes]
    if not table.rows:
        return "\n".join([f"<p><b>{web.escape(table.title)}</b></p>", *notes])
    return "\n".join(
        [
            "<table>",
            f"<caption>{web.escape(table.title)}</caption>",
            f"<thead>{line([web.escape(name) for name in table.header], 'th')}</thead>",
            "<tbody>",
            *(line([shown(cell) for cell in row], "td") for row in table.rows),
            "</tbody>",
            "</table>",
            *notes,
        ]
    )


RENDER: dict[Format, Callable[[Table], str]] = {
    "markdown": markdown,
    "latex": latex,
    "html": html,
}


def publish(make: Callable[[], str], out: str) -> None:
    """Print the text of a command, or write it to the file `out`; what is wrong with the choices or
    the records ends the process with a line."""
    try:
        text = make()
    except (ConfigError, PredictionError) as error:
        sys.exit(f"error: {error}")
    if out:
        Path(out).expanduser().write_text(text)
    else:
        print(text, end="")


def _escaped(text: str, characters: dict[str, str]) -> str:
    return "".join(characters.get(character, character) for character in text)


def _bold(text: str, cell: Cell, form: str) -> str:
    return form.format(text) if cell.best else text


def _mark(cell: Cell) -> str:
    return MARK if cell.as_good and not cell.best else ""
