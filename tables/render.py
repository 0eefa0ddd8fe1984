"""Markdown and CSV from the JSON of a finished table (its fields: docs of repro.table)."""

import csv
import io

from tabulate import tabulate

CANNOT_COMPARE = (
    "Numbers of the {profile} profile and of the paper measure different things: between the two "
    "columns only the order of rows and the sign of their differences can be compared."
)


def columns(table: dict) -> list[str]:
    """The columns measured in any row, in order."""
    return list(dict.fromkeys(name for row in table["rows"] for name in row["cells"]))


def measured(cell: dict) -> str:
    """ "51.2 [48.0, 54.4]", or why there is no number."""
    if cell["value"] is None:
        return f"unscored: {cell['unscored']}"
    low, high = cell["interval"]
    return f"{cell['value']:.1f} [{low:.1f}, {high:.1f}]"


def markdown(table: dict) -> str:
    """A markdown table, the paper's column beside each measured one, and what is behind it."""
    header, rows = ["row"], [[row["label"]] for row in table["rows"]]
    for name in columns(table):
        cells = [row["cells"][name] for row in table["rows"]]
        if any(cell["paper"] is not None for cell in cells):
            header.append(f"{name} (paper)")
            for line, cell in zip(rows, cells, strict=True):
                line.append("–" if cell["paper"] is None else f"{cell['paper']:.1f}")
        header.append(f"{name} ({table['profile']})")
        for line, cell in zip(rows, cells, strict=True):
            line.append(measured(cell))
    align = ["left"] + ["right"] * (len(header) - 1)
    rows = [[text.replace("|", "\\|").replace("\n", " ") for text in line] for line in rows]
    grid = tabulate(rows, header, tablefmt="pipe", colalign=align, disable_numparse=True)
    number = table["table"].removeprefix("table")
    return f"**Table {number}.** {table['title']}.\n\n{grid}\n\n{footer(table)}\n"


def footer(table: dict) -> str:
    """Profile, seeds, n, interval, metric, judge and commit, one line each."""
    lines = [
        f"Profile {table['profile']}; data seeds {_list(table['seeds'])}; "
        f"{table['tuning_seeds']} tuning seeds for each; commit {table['commit']}.",
        f"Brackets: {table['interval']}.",
    ]
    for name in columns(table):
        cells = [row["cells"][name] for row in table["rows"]]
        scored = [cell for cell in cells if cell["value"] is not None]
        metric = _list(dict.fromkeys(cell["metric"] for cell in scored)) or "not scored"
        n = _list(sorted({cell["n"] for cell in scored})) or "0"
        judge = _list(dict.fromkeys(cell["judge"] for cell in scored if cell["judge"])) or "none"
        lines.append(f"{name}: {metric}; n = {n} {table['units'][name]}; judge: {judge}.")
    if table["profile"] != "paper":
        lines.append(CANNOT_COMPARE.format(profile=table["profile"]))
    return "\n".join(f"- {line}" for line in lines)


def comma_separated(table: dict) -> str:
    """One line a cell: row, column, value, low, high, n, paper, metric, judge, unscored."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fields = ("n", "paper", "metric", "judge", "unscored")
    writer.writerow(["row", "column", "value", "low", "high", *fields])
    for row in table["rows"]:
        for name, cell in row["cells"].items():
            low, high = cell["interval"] or (None, None)
            rest = [cell[key] for key in fields]
            writer.writerow([row["label"], name, cell["value"], low, high, *rest])
    return out.getvalue()


def _list(values) -> str:
    return ", ".join(str(value) for value in values)
