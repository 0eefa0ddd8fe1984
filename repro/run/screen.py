"""Results on standard output: on a terminal as tables that fit it, else the markdown as it is."""

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# A row of a markdown table, and the line below its head.
_ROW, _RULE = re.compile(r"^\|.*\|\s*$"), re.compile(r"^\|[\s:|-]+\|\s*$")


def show(markdown: str) -> None:
    """Print markdown. Whoever reads a pipe or a file gets its bytes."""
    if not sys.stdout.isatty():
        print(markdown)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    for block in _blocks(markdown):
        if len(block) > 1 and _RULE.match(block[1]):
            _show_table(console, [_cells(line) for line in (block[0], *block[2:])])
        else:
            console.print(Markdown("\n".join(block)))


def _blocks(markdown: str) -> list[list[str]]:
    """The lines, those of a table apart from others."""
    blocks: list[list[str]] = []
    before = None
    for line in markdown.split("\n"):
        row = bool(_ROW.match(line))
        if row != before:
            blocks.append([])
        blocks[-1].append(line)
        before = row
    return blocks


def _cells(line: str) -> list[str]:
    inner = line.strip()[1:-1]
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _show_table(console: "Console", rows: list[list[str]]) -> None:
    """The table whole, or its columns in several tables below one another, each with the first.

    No number is ever cut: a column is at least as wide as its longest word, but for the first,
    whose words may be folded.
    """
    from rich.table import Table
    from rich.text import Text

    columns = list(zip(*rows, strict=True))
    least = [
        max(len(word) for cell in column for word in ["", *cell.split()]) for column in columns
    ]
    least[0] = min(least[0], console.width // 3)
    parts: list[list[int]] = [[0]]
    for index in range(1, len(columns)):
        if len(parts[-1]) > 1 and _width(least, [*parts[-1], index]) > console.width:
            parts.append([0])
        parts[-1].append(index)
    for part in parts:
        spare = max(0, console.width - _width(least, part))
        table = Table(box=None, header_style="bold")
        for index in part:
            more = min(spare, max(map(len, columns[index])) - least[index])
            spare -= more
            table.add_column(
                Text(rows[0][index]),
                justify="right" if index else "left",
                overflow="fold",
                width=least[index] + more,
            )
        for row in rows[1:]:
            table.add_row(*(Text(row[index]) for index in part))
        console.print(table)


def _width(least: list[int], part: list[int]) -> int:
    """Of a table with these columns, each with a space before and behind it."""
    return sum(least[index] + 2 for index in part)
