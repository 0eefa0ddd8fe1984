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
OFFSET = 0.03  # lines stand a little beside one another, so that their bars do not overlap
X_LABEL = "share of the initial data that is selected, %"


def draw_figure(table: dict) -> dict[str, bytes]:
    """Draw the figure as SVG and PNG, by file name; the same table gives the same bytes.

    Bars are the cells' intervals. A cell without a number is not drawn; the caption explains it.
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
    """Return each line's cells in a column, by share in percent."""
    lines: dict[str, dict[float, dict]] = {}
    for row in table["rows"]:
        line, _, share = row["label"].rpartition(", ")
        lines.setdefault(line, {})[float(share.removesuffix("%"))] = row["cells"][column]
    return lines


def _panel(axes: "Axes", lines: dict[str, dict[float, dict]], name: str) -> None:
    shares = sorted({share for cells in lines.values() for share in cells})
    scored = {
        line: {share: cell for share, cell in cells.items() if cell["value"] is not None}
        for line, cells in lines.items()
    }
    scored = {line: cells for line, cells in scored.items() if cells}
    for k, (line, cells) in enumerate(scored.items()):
        x = [share * (1 + OFFSET * (k - (len(scored) - 1) / 2)) for share in cells]
        low, high = zip(*(cell["interval"] for cell in cells.values()), strict=True)
        values, colour = [cell["value"] for cell in cells.values()], COLOURS[line]
        axes.plot(x, values, "o-", color=colour, markersize=4, label=line)
        # Not errorbar: an interval of percentiles need not contain the value.
        axes.vlines(x, low, high, color=colour, linewidth=1.2, gid=f"{name}-{line}")
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.minorticks_off()
    axes.set_xlim(shares[0] * 0.85, shares[-1] / 0.85)
    axes.set_xlabel(X_LABEL)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _caption(table: dict) -> list[str]:
    """The provenance, the meaning of the bars and the cells not drawn, in lines."""
    width = 90 * len(markdown.column_names(table))  # letters
    texts = [*markdown.provenance_lines(table, "Bars"), *table.get("notes", []), *_unscored(table)]
    return [line for text in texts for line in textwrap.wrap(text, width)]


def _unscored(table: dict) -> list[str]:
    """The reasons of cells without a number, in sentences."""
    columns_by_reason: dict[tuple[str, ...], list[str]] = {}
    for column in markdown.column_names(table):
        for line, cells in cells_by_line(table, column).items():
            reasons = {share: c["unscored"] for share, c in cells.items() if c["value"] is None}
            for reason in dict.fromkeys(reasons.values()):
                shares = ", ".join(f"{share:g}" for share in reasons if reasons[share] == reason)
                columns_by_reason.setdefault((line, shares, reason), []).append(column)
    return [
        f"Not measured: {' and '.join(columns)} of {line} at {shares}%: {reason}."
        for (line, shares, reason), columns in columns_by_reason.items()
    ]
