"""Drawings of a finished table whose rows are the points of lines: figure 3.

A row's label is the line's name and its share of the data: "LLaVA, 5%". Each column is a panel.
"""

import io
import textwrap
from typing import TYPE_CHECKING, Literal

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

    with rc_context(svg_settings(table["table"]) | {"text.parse_math": False}):
        figure, name = _figure(table), table["table"]
        return {f"{name}.svg": save(figure, "svg"), f"{name}.png": save(figure, "png")}


def svg_settings(salt: str) -> dict[str, str]:
    """Settings of matplotlib for SVG: ids without chance, and text that stays text."""
    return {"svg.hashsalt": salt, "svg.fonttype": "none"}


def save(figure: "Figure", kind: Literal["svg", "png"]) -> bytes:
    """Return a figure's file, without a date or a version in it."""
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}[kind]
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
    figure.suptitle(f"{markdown.heading(table)} {table['title']}", x=0.01, ha="left", fontsize=11)
    handles = [*{line.get_label(): line for axes in panels for line in axes.lines}.values()]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
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
        line: values
        for line, cells in lines.items()
        if (values := {share: c for share, c in cells.items() if c["value"] is not None})
    }
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
