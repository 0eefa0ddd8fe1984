"""Drawings of a pool: I²C by instruction class, and score against length. As SVG, for a phone's
width; the page turns their colours round where it is dark."""

import io
from typing import TYPE_CHECKING

import numpy as np

from c3l.instructions import CLASSES
from repro.report.listings import draw_sample
from repro.report.pools import Pool

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 4.4, 2.9  # inches
BINS = 40
LINEAR = 0.1  # nats: many pairs lie about zero, some a hundred times further out
MARKS = (-100, -10, -1, -0.1, 0, 0.1, 1, 10, 100, 1000)
POINTS = 250  # of each class
# Told apart without colours too, and by those who see few.
LOOKS = (("#0072b2", "-", "o"), ("#d55e00", "--", "s"), ("#6b6b00", ":", "^"))


def histogram(pool: Pool) -> bytes:
    """How I²C is spread within each class: the share of the class's pairs in each bin."""
    found = {name: [score.i2c for _, score in pool.of_class(name)] for name in CLASSES}
    ends = np.arcsinh([score.i2c / LINEAR for _, score in pool.pairs])
    bins = LINEAR * np.sinh(np.linspace(ends.min(), ends.max(), BINS + 1))

    def drawn(axes: "Axes") -> None:
        for (name, values), (colour, line, _) in zip(found.items(), LOOKS, strict=True):
            if values:
                weights = np.full(len(values), 100 / len(values))
                looks = {"color": colour, "linestyle": line, "linewidth": 1.6}
                label = f"{name} ({len(values)})"
                axes.hist(values, bins, weights=weights, histtype="step", label=label, **looks)
        axes.set_xscale("asinh", linear_width=LINEAR)
        axes.set_xticks(marks := [mark for mark in MARKS if bins[0] <= mark <= bins[-1]])
        axes.set_xticklabels(f"{mark:g}" for mark in marks)
        axes.minorticks_off()
        axes.set_xlabel("I²C, nats (eq. 1); logarithmic but around zero")
        axes.set_ylabel("% of the class's pairs")

    return _svg(drawn, f"histogram-{pool.backbone}")


def against_length(pool: Pool) -> bytes:
    """I²C of a seeded draw of each class's pairs, over how many tokens their answers have."""

    def drawn(axes: "Axes") -> None:
        for name, (colour, _, mark) in zip(CLASSES, LOOKS, strict=True):
            pairs = pool.of_class(name)
            some = draw_sample(pairs, POINTS)
            places = [[len(score.kl) for _, score in some], [score.i2c for _, score in some]]
            label = f"{name} ({len(some)} of {len(pairs)})"
            looks = {"color": colour, "markersize": 3, "alpha": 0.55, "markeredgewidth": 0}
            axes.plot(*places, mark, label=label, **looks)
        axes.set_xlabel("tokens of the answer")
        axes.set_ylabel("I²C, nats (eq. 1)")

    return _svg(drawn, f"length-{pool.backbone}")


def _svg(drawn, salt: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Ids without chance, and text that stays text.
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        drawn(axes)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper left", ncols=1, frameon=False, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue()
