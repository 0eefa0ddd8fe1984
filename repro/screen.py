"""Results on standard output: on a terminal as tables that fit it, else the markdown as it is."""

import re
import sys

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


def _show_table(console, rows: list[list[str]]) -> None:
    """The table whole, or its columns in several tables below one another, each with the first.

    No number is ever cut: a column is at least as wide as its longest word.
    """
    from rich.table import Table

    head, *body = rows
    columns = list(zip(*rows, strict=True))
    widths = [
        max(len(word) for cell in column for word in (*cell.split(), "")) for column in columns
    ]
    # The first column holds sentences; it may be folded anywhere.
    first = min(widths[0], console.width // 3)
    parts: list[list[int]] = [[]]
    for index in range(1, len(head)):
        some = [*parts[-1], index]
        if parts[-1] and first + 2 + sum(widths[i] + 2 for i in some) > console.width:
            parts.append([index])
        else:
            parts[-1] = some
    for part in parts:
        table = Table(box=None, header_style="bold", padding=(0, 1))
        table.add_column(_plain(head[0]), overflow="fold", min_width=first)
        for index in part:
            table.add_column(
                _plain(head[index]), justify="right", overflow="fold", min_width=widths[index]
            )
        for row in body:
            table.add_row(_plain(row[0]), *(_plain(row[index]) for index in part))
        console.print(table)


def _plain(text: str):
    """A cell's text: none of it is markup of the terminal's library."""
    from rich.text import Text

    return Text(text)
