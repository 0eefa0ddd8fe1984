"""Results in files and on standard output, where tables are made to fit a terminal."""

import re
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from c3l.runtime.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

# A row of a markdown table, and the line below its head.
_ROW, _RULE = re.compile(r"^\|.*\|\s*$"), re.compile(r"^\|[\s:|-]+\|\s*$")


def write_result(path: Path, content: str | bytes, *, make_folder: bool = False) -> None:
    """Write a file atomically. Raises UserError where it cannot be written."""
    from c3l.artifacts.files import write_atomically

    try:
        if make_folder:
            path.parent.mkdir(exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error


def show(markdown: str) -> None:
    """Print markdown. A pipe or a file gets its bytes."""
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
    """Split into runs of lines: tables, and the text between them."""
    lines = markdown.split("\n")
    return [[*block] for _, block in groupby(lines, lambda line: bool(_ROW.match(line)))]


def _cells(line: str) -> list[str]:
    inner = line.strip()[1:-1]
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _show_table(console: "Console", rows: list[list[str]]) -> None:
    """Print a table, its columns in several tables where they do not fit, each with the first.

    No number is cut: a column is as wide as its longest word at least. rich alone would fold words
    in all columns; here only the first may.
    """
    from rich.table import Table
    from rich.text import Text

    columns = list(zip(*rows, strict=True))
    words = [[len(word) for cell in column for word in cell.split()] for column in columns]
    widths = [max(lengths, default=0) for lengths in words]
    widths[0] = min(widths[0], console.width // 3)

    def room_beside(part: list[int]) -> int:
        """Columns of the terminal that this table leaves; each has a space on either side."""
        return console.width - sum(widths[index] + 2 for index in part)

    parts: list[list[int]] = [[0]]
    for index in range(1, len(columns)):
        if len(parts[-1]) > 1 and room_beside([*parts[-1], index]) < 0:
            parts.append([0])
        parts[-1].append(index)
    for part in parts:
        spare = max(0, room_beside(part))
        table = Table(box=None, header_style="bold")
        for index in part:
            extra = min(spare, max(map(len, columns[index])) - widths[index])
            spare -= extra
            table.add_column(
                Text(rows[0][index]),
                justify="right" if index else "left",
                overflow="fold",
                width=widths[index] + extra,
            )
        for row in rows[1:]:
            table.add_row(*(Text(row[index]) for index in part))
        console.print(table)
