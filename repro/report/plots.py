"""Plots of a pool: I²C by instruction class, and score against length.

As SVG, for a phone's width. The page inverts their colours where it is dark.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from c3l.instructions import CLASSES
from repro.render import figures
from repro.report.samples import draw_sample
from repro.report.scored_pairs import Pool

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 4.4, 2.9  # inches
BINS = 40
LINEAR = 0.1  # nats: many pairs lie about zero, some a hundred times further out
MARKS = (-100, -10, -1, -0.1, 0, 0.1, 1, 10, 100, 1000)
POINTS = 250  # of each class
# Distinct without colours too, and for colour-blind readers.
STYLES = (("#0072b2", "-", "o"), ("#d55e00", "--", "s"), ("#6b6b00", ":", "^"))


def histogram(pool: Pool) -> bytes:
    """The distribution of I²C within each class: the share of the class's pairs in each bin."""
    ends = np.arcsinh([score.i2c / LINEAR for _, score in pool.pairs])
    bins = LINEAR * np.sinh(np.linspace(ends.min(), ends.max(), BINS + 1))

    def plot(axes: "Axes") -> None:
        for name, (colour, line, _) in zip(CLASSES, STYLES, strict=True):
            if values := [score.i2c for _, score in pool.in_class(name)]:
                weights = np.full(len(values), 100 / len(values))
                style = {"color": colour, "linestyle": line, "linewidth": 1.6}
                label = f"{name} ({len(values)})"
                axes.hist(values, bins, weights=weights, histtype="step", label=label, **style)
        axes.set_xscale("asinh", linear_width=LINEAR)
        marks = [mark for mark in MARKS if bins[0] <= mark <= bins[-1]]
        axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
        axes.minorticks_off()
        axes.set_xlabel("I²C, nats (eq. 1); logarithmic but around zero")
        axes.set_ylabel("% of the class's pairs")

    return _svg(plot, f"histogram-{pool.backbone}")


def score_against_length(pool: Pool) -> bytes:
    """I²C of a seeded draw of each class's pairs, over the number of their answers' tokens."""

    def plot(axes: "Axes") -> None:
        for name, (colour, _, mark) in zip(CLASSES, STYLES, strict=True):
            pairs = pool.in_class(name)
            points = draw_sample(pairs, POINTS)
            x, y = [len(score.kl) for _, score in points], [score.i2c for _, score in points]
            label = f"{name} ({len(points)} of {len(pairs)})"
            style = {"color": colour, "markersize": 3, "alpha": 0.55, "markeredgewidth": 0}
            axes.plot(x, y, mark, label=label, **style)
        axes.set_xlabel("tokens of the answer")
        axes.set_ylabel("I²C, nats (eq. 1)")

    return _svg(plot, f"length-{pool.backbone}")


def _svg(plot: "Callable[[Axes], None]", salt: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(figures.svg_settings(salt) | {"font.size": 9}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        plot(axes)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper left", ncols=1, frameon=False, fontsize=8)
        return figures.save(figure, "svg")
