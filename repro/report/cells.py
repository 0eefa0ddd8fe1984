"""A cell in words, and its interval as a bar on the scale of its column."""

from collections.abc import Iterator

from repro.render import markdown

Scale = tuple[float, float]


def describe_column(name: str, record: dict) -> dict:
    """A column's name, its companions in the table, and the scales that its bars share."""
    cells = [row["cells"][name] for row in record["rows"] if name in row["cells"]]
    differences = [cell["difference"] for cell in cells if cell.get("difference")]
    return {
        "name": name,
        "paper": any(cell["paper"] is not None for cell in cells),
        "compared": bool(differences),
        "scale": bar_scale(cells),
        "difference_scale": bar_scale(differences, zero=True),
    }


def bar_scale(estimates: list[dict], *, zero: bool = False) -> Scale | None:
    """The range of intervals and values, with zero if asked for; None if it has no width.

    An interval of percentiles need not contain the value.
    """
    estimates = [estimate for estimate in estimates if estimate["interval"]]
    ends = [end for e in estimates for end in (*e["interval"], e["value"])]
    ends += [0.0] if estimates and zero else []
    return (min(ends), max(ends)) if ends and min(ends) < max(ends) else None


def interval_bar(estimate: dict, scale: Scale | None) -> dict | None:
    """An interval, its value and zero as positions from 0 to 100, if there are both."""
    if estimate["interval"] is None or scale is None:
        return None
    start, end = scale

    def position(value: float) -> float:
        return round(4 + 92 * (value - start) / (end - start), 1)

    low, high = map(position, estimate["interval"])
    zero = position(0) if start <= 0 <= end else None
    return {"low": low, "high": high, "value": position(estimate["value"]), "zero": zero}


def describe_cell(cell: dict, column: dict) -> dict:
    """A cell's texts and bars for the table."""
    difference = cell.get("difference")
    return {
        "paper": markdown.format_paper_value(cell["paper"]),
        "paper_value": cell["paper"],
        "value": cell["value"],
        "text": markdown.format_cell(cell),
        "bar": interval_bar(cell, column["scale"]),
        "difference": difference and difference["value"],
        "difference_text": markdown.format_base_difference(cell),
        "difference_bar": difference and interval_bar(difference, column["difference_scale"]),
    }


def cell_facts(cell: dict, unit: str, record: dict) -> list[tuple[str, str]]:
    """A cell's record as names and texts, for its dialog."""
    facts = [(f"value ({record['profile']})", markdown.format_cell(cell))]
    if cell["paper"] is not None:
        facts.append(("the paper's number", markdown.format_paper_value(cell["paper"])))
    if difference := cell.get("difference"):
        base = f"difference from “{difference['base']}”"
        facts.append((base, markdown.format_base_difference(cell)))
        tests = (("p (McNemar)", "p"), ("p, Holm's correction", "p_holm"))
        facts += [(name, f"{difference[p]:.3g}") for name, p in tests if p in difference]
    facts += [("metric", cell["metric"] or "not scored"), ("n", f"{cell['n']} {unit}")]
    facts += [("judge", cell["judge"] or "none"), ("interval", record["interval"])]
    for seed, values in enumerate(cell["extra"].get("values", [])):
        name = f"data seed {seed}" + (", by tuning seed" if len(values) > 1 else "")
        facts.append((name, ", ".join(f"{value:.2f}" for value in values)))
    return facts


def extra_numbers(extra: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The means that a benchmark reports beside its number."""
    for name, value in extra.items():
        if isinstance(value, dict):
            yield from extra_numbers(value, f"{prefix}{name}: ")
        elif isinstance(value, float | int):
            yield f"{prefix}{name}", f"{value:g}"
