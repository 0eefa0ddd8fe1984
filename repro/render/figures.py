"""Drawings of a finished table whose rows are the points of lines: figure 3.

A row's label is the line's name and its share of the data: "LLaVA, 5%". Each column is a panel.
"""

import io
import textwrap
from typing import TYPE_CHECKING

from repro.render import markdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"LLaVA": "tab:orange", "MiniGPT-4": "tab:blue"}  # the paper's
APART = 0.03  # lines stand a little beside one another, so that their bars can be told apart
X_LABEL = "share of the initial data that is selected, %"


def draw_figure(table: dict) -> dict[str, bytes]:
    """The figure as SVG and PNG, by file name; the same table gives the same bytes.

    Bars are the cells' intervals. A cell without a number is not drawn; the caption says why.
    """
    from matplotlib import rc_context

    settings = {
        "svg.hashsalt": table["table"],  # else ids are random
        "svg.fonttype": "none",  # text stays text
        "text.parse_math": False,
    }
    with rc_context(settings):
        figure = _figure(table)
        return {
            f"{table['table']}.{kind}": _bytes(figure, kind, metadata)
            for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None}))
        }


def _bytes(figure: "Figure", kind: str, metadata: dict) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()


def _figure(table: dict) -> "Figure":
    from matplotlib.figure import Figure

    names, caption = markdown.column_names(table), _caption(table)
    # Not pyplot: it would choose a window system.
    figure = Figure(figsize=(5 * len(names), 4 + 0.14 * len(caption)), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for number, (name, axes) in enumerate(zip(names, panels, strict=True)):
        _panel(axes, cells_by_line(table, name), f"intervals-{number}")
        axes.set_ylabel(f"{name} ({table['profile']})")
    title = f"{markdown.heading(table)} {table['title']}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    handles = {handle.get_label(): handle for axes in panels for handle in axes.lines}
    figure.legend(
        handles=[*handles.values()], loc="outside upper right", ncols=2, frameon=False, fontsize=9
    )
    figure.supxlabel("\n".join(caption), x=0.01, ha="left", fontsize=7)
    return figure


def cells_by_line(table: dict, column: str) -> dict[str, dict[float, dict]]:
    """Of each line its cells in a column, by share in percent."""
    found: dict[str, dict[float, dict]] = {}
    for row in table["rows"]:
        line, _, share = row["label"].rpartition(", ")
        found.setdefault(line, {})[float(share.removesuffix("%"))] = row["cells"][column]
    return found


def _panel(axes: "Axes", found: dict[str, dict[float, dict]], name: str) -> None:
    shares = sorted({share for cells in found.values() for share in cells})
    drawn = {
        line: {share: cell for share, cell in cells.items() if cell["value"] is not None}
        for line, cells in found.items()
    }
    drawn = {line: cells for line, cells in drawn.items() if cells}
    for k, (line, cells) in enumerate(drawn.items()):
        places = [share * (1 + APART * (k - (len(drawn) - 1) / 2)) for share in cells]
        low, high = zip(*(cell["interval"] for cell in cells.values()), strict=True)
        values, colour = [cell["value"] for cell in cells.values()], COLOURS[line]
        axes.plot(places, values, "o-", color=colour, markersize=4, label=line)
        # Not errorbar: an interval of percentiles need not hold the value.
        axes.vlines(places, low, high, color=colour, linewidth=1.2, gid=f"{name}-{line}")
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.minorticks_off()
    axes.set_xlim(shares[0] * 0.85, shares[-1] / 0.85)
    axes.set_xlabel(X_LABEL)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _caption(table: dict) -> list[str]:
    """How it was measured, what the bars are, and what is not drawn, in lines."""
    width = 90 * len(markdown.column_names(table))  # letters
    said = [*markdown.provenance_lines(table, "Bars"), *table.get("notes", []), *_not_drawn(table)]
    return [line for text in said for line in textwrap.wrap(text, width)]


def _not_drawn(table: dict) -> list[str]:
    """Why cells have no number, in sentences."""
    places: dict[tuple[str, ...], list[str]] = {}
    for column in markdown.column_names(table):
        for line, cells in cells_by_line(table, column).items():
            lacking = {share: c["unscored"] for share, c in cells.items() if c["value"] is None}
            for reason in dict.fromkeys(lacking.values()):
                shares = ", ".join(f"{share:g}" for share in lacking if lacking[share] == reason)
                places.setdefault((line, shares, reason), []).append(column)
    return [
        f"Not measured: {' and '.join(columns)} of {line} at {shares}%: {reason}."
        for (line, shares, reason), columns in places.items()
    ]
