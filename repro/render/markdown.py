"""Markdown and CSV from the JSON of a finished table (fields: `repro.analysis.table`)."""

import csv
import io
import re

from tabulate import tabulate

from repro.render import gallery

CANNOT_COMPARE = (
    "Numbers of the {profile} profile and of the paper measure different things: between the two "
    "columns only the order of rows and the sign of their differences can be compared."
)
PAIRED = "paired by image with its questions, data seed and tuning seed"
DETECTABLE = "the smallest true difference detected with 80% power"
SIGNIFICANT = 0.05
SIGN = (
    "†: McNemar's exact test over questions, p below {limit} after Holm's correction for the "
    "{count} comparisons of this table that have such a p: the two models differ; two seeds of one "
    "method can, too"
)


def column_names(table: dict) -> list[str]:
    """Return the columns measured in any row, in order."""
    return list(dict.fromkeys(name for row in table["rows"] for name in row["cells"]))


def format_cell(cell: dict) -> str:
    """ "51.2 [48.0, 54.4]", "3000" for a count without interval, or the reason for no number."""
    if cell["value"] is None:
        return f"unscored: {cell['unscored']}"
    if cell["interval"] is None:
        return format_number(cell["value"])
    low, high = cell["interval"]
    return f"{cell['value']:.1f} [{low:.1f}, {high:.1f}]"


def format_paper_value(number: float | None, sign: str = "") -> str:
    """A number with the decimals that the paper gives it: 76.0, 56.58, 158000; sign "+": +76.0.

    A dash where the paper has none.
    """
    if number is None:
        return "–"
    decimals = 0 if abs(number) >= 1000 else 1 if number == round(number, 1) else 2
    return f"{number:{sign}.{decimals}f}"


def format_number(value: float) -> str:
    """A number with one decimal; without any from a thousand up, where it can only be a count."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}"


def format_base_difference(cell: dict) -> str:
    """ "+1.2 [-0.3, 2.6] (2.0)", with a † if significant; a dash where nothing is compared."""
    difference = cell.get("difference")
    if difference is None:
        return "–"
    sign = "†" if difference.get("p_holm", 1) < SIGNIFICANT else ""
    # Older tables lack it.
    detectable = f" ({difference['detectable']:.1f})" if "detectable" in difference else ""
    return format_difference(difference) + sign + detectable


def format_difference(difference: dict) -> str:
    """ "+1.2 [-0.3, 2.6]"."""
    low, high = difference["interval"]
    return f"{difference['value']:+z.1f} [{low:z.1f}, {high:z.1f}]"


def grid(header: list[str], lines: list[list[str]], word_columns: int = 1) -> str:
    """A pipe table whose first `word_columns` are words and the others numbers."""
    lines = [[text.replace("|", "\\|").replace("\n", " ") for text in line] for line in lines]
    align = ["left"] * word_columns + ["right"] * (len(header) - word_columns)
    return tabulate(lines, header, tablefmt="pipe", colalign=align, disable_numparse=True)


def render_table(table: dict) -> str:
    """Render a markdown table with its provenance; for a figure also its drawing or gallery.

    Beside a measured column stand the paper's numbers, and the differences of rows from their
    bases, where there are any.
    """
    columns = [("row", [row["label"] for row in table["rows"]])]
    for name in column_names(table):
        cells = [row["cells"][name] for row in table["rows"]]
        if any(cell["paper"] is not None for cell in cells):
            columns.append((f"{name} (paper)", [format_paper_value(c["paper"]) for c in cells]))
        columns.append((f"{name} ({table['profile']})", [format_cell(c) for c in cells]))
        if any(cell.get("difference") for cell in cells):
            columns.append((f"Δ {name}", [format_base_difference(c) for c in cells]))
    header, texts = zip(*columns, strict=True)
    rows = [[*row] for row in zip(*texts, strict=True)]
    title = f"**{heading(table)}** {table['title']}."
    return "\n\n".join([title, *_figure(table), grid([*header], rows), footer(table)]) + "\n"


def heading(table: dict) -> str:
    """ "Table 4." or "Figure 3." """
    return re.sub(r"(\d+)$", r" \1.", table["table"]).capitalize()


def _figure(table: dict) -> list[str]:
    if "gallery" in table:
        return [gallery.render_gallery(table["gallery"])]
    return [f"![{table['title']}]({file})" for file in table.get("files", [])[:1]]


def provenance_lines(table: dict, intervals: str = "Brackets") -> list[str]:
    """Profile, seeds, n, interval, metric, judge and commit, in sentences.

    `intervals` names the sign that shows them.
    """
    lines = [
        f"Profile {table['profile']}; data seeds {_list(table['seeds'])}; "
        + (f"{table['tuning_seeds']} tuning seeds for each; " if table["tuning_seeds"] else "")
        + f"commit {table['commit']}.",
        f"{intervals}: {table['interval']}.",
    ]
    for name in column_names(table):
        cells = [row["cells"][name] for row in table["rows"]]
        scored = [cell for cell in cells if cell["value"] is not None]
        metric = _list(dict.fromkeys(cell["metric"] for cell in scored)) or "not scored"
        n = _list(sorted({cell["n"] for cell in scored})) or "0"
        judge = _list(dict.fromkeys(cell["judge"] for cell in scored if cell["judge"])) or "none"
        lines.append(f"{name}: {metric}; n = {n} {table['units'][name]}; judge: {judge}.")
    return lines


def footer(table: dict) -> str:
    """The provenance, a line on differences, and the table's notes, one line each."""
    lines = provenance_lines(table)
    if bases := _bases(table):
        lines.append(f"Δ: difference from {bases}, {PAIRED}{_tests(table)}.")
    lines += table.get("notes", [])
    cells = [cell for row in table["rows"] for cell in row["cells"].values()]
    if table["profile"] != "paper" and any(cell["paper"] is not None for cell in cells):
        lines.append(CANNOT_COMPARE.format(profile=table["profile"]))
    return "\n".join(f"- {line}" for line in lines)


CSV_FIELDS = ("n", "paper", "metric", "judge", "unscored")
CSV_TESTS = ("detectable", "df", "power_if_paper", "false_alarm", "p", "p_holm")


def render_csv(table: dict) -> str:
    """Render one line a cell, with its difference from the base and the interval, if any."""
    out = io.StringIO()
    head = ["row", "column", "value", "low", "high", *CSV_FIELDS]
    head += ["difference", "difference_low", "difference_high", *CSV_TESTS]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in table["rows"]:
        for name, cell in row["cells"].items():
            delta = cell.get("difference") or {"value": None}
            writer.writerow(
                [row["label"], name, cell["value"], *(cell["interval"] or (None, None))]
                + [cell[key] for key in CSV_FIELDS]
                + [delta["value"], *delta.get("interval", (None, None))]
                + [delta.get(key) for key in CSV_TESTS]
            )
    return out.getvalue()


def _bases(table: dict) -> str:
    """The base of most rows, and in brackets the rows that have another; empty without any."""
    rows: dict[str, list[str]] = {}
    for row in table["rows"]:
        for base in dict.fromkeys(difference["base"] for difference in _differences([row])):
            rows.setdefault(base, []).append(row["label"])
    if not rows:
        return ""
    main = max(rows, key=lambda base: len(rows[base]))
    exceptions = [
        f"of {_quoted(labels)} from {_quoted([base])}"
        for base, labels in rows.items()
        if base != main
    ]
    return _quoted([main]) + (f" ({'; '.join(exceptions)})" if exceptions else "")


def _tests(table: dict) -> str:
    """A legend for the brackets and the sign behind a difference's interval."""
    differences = _differences(table["rows"])
    detectable = any("detectable" in difference for difference in differences)
    legend = f"; in round brackets {DETECTABLE}" if detectable else ""
    if count := sum("p_holm" in difference for difference in differences):
        legend += "; " + SIGN.format(limit=SIGNIFICANT, count=count)
    return legend


def _differences(rows: list[dict]) -> list[dict]:
    cells = [cell for row in rows for cell in row["cells"].values()]
    return [cell["difference"] for cell in cells if cell.get("difference")]


def _quoted(labels: list[str]) -> str:
    return _list(f"“{label}”" for label in labels)


def _list(values) -> str:
    return ", ".join(str(value) for value in values)
