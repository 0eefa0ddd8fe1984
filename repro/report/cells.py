"""A cell in words, and its interval as a bar on a scale that its column shares."""

from collections.abc import Iterator

from repro.render import markdown

Scale = tuple[float, float]


def column(name: str, record: dict) -> dict:
    """A column's name, what stands beside our numbers, and the scales that its bars share."""
    cells = [row["cells"][name] for row in record["rows"] if name in row["cells"]]
    differences = [cell["difference"] for cell in cells if cell.get("difference")]
    return {
        "name": name,
        "paper": any(cell["paper"] is not None for cell in cells),
        "compared": bool(differences),
        "scale": scale(cells),
        "difference_scale": scale(differences, zero=True),
    }


def scale(found: list[dict], *, zero: bool = False) -> Scale | None:
    """From the least to the most of intervals and values, and zero if asked for.

    None where there is no interval, or no width. An interval of percentiles need not hold the
    value.
    """
    drawn = [one for one in found if one["interval"]]
    ends = [end for one in drawn for end in (*one["interval"], one["value"])]
    ends += [0.0] if drawn and zero else []
    return (min(ends), max(ends)) if ends and min(ends) < max(ends) else None


def bar(found: dict, scale: Scale | None) -> dict | None:
    """An interval, its value and zero on a scale from 0 to 100; None where none is drawn."""
    if found["interval"] is None or scale is None:
        return None
    least, most = scale

    def place(value: float) -> float:
        return round(4 + 92 * (value - least) / (most - least), 1)

    low, high = found["interval"]
    zero = place(0) if least <= 0 <= most else None
    return {"low": place(low), "high": place(high), "value": place(found["value"]), "zero": zero}


def drawn(cell: dict, column: dict) -> dict:
    """A cell in words, with its bars."""
    difference = cell.get("difference")
    return {
        "paper": None if cell["paper"] is None else markdown.format_paper_value(cell["paper"]),
        "paper_value": cell["paper"],
        "value": cell["value"],
        "text": markdown.format_cell(cell),
        "bar": bar(cell, column["scale"]),
        "difference": difference and difference["value"],
        "difference_text": markdown.format_base_difference(cell),
        "difference_bar": difference and bar(difference, column["difference_scale"]),
    }


def facts(cell: dict, unit: str, record: dict) -> list[tuple[str, str]]:
    """A cell's record in words."""
    said = [(f"value ({record['profile']})", markdown.format_cell(cell))]
    if cell["paper"] is not None:
        said.append(("the paper's number", markdown.format_paper_value(cell["paper"])))
    if difference := cell.get("difference"):
        said.append(
            (f"difference from “{difference['base']}”", markdown.format_base_difference(cell))
        )
    for name, key in (("p (McNemar)", "p"), ("p, Holm's correction", "p_holm")):
        if difference and key in difference:
            said.append((name, f"{difference[key]:.3g}"))
    said += [("metric", cell["metric"] or "not scored"), ("n", f"{cell['n']} {unit}")]
    said += [("judge", cell["judge"] or "none"), ("interval", record["interval"])]
    for seed, values in enumerate(cell["extra"].get("values", [])):
        by = ", by tuning seed" if len(values) > 1 else ""
        said.append((f"data seed {seed}{by}", ", ".join(f"{value:.2f}" for value in values)))
    return said


def numbers(extra: dict, before: str = "") -> Iterator[tuple[str, str]]:
    """The means that a benchmark reports beside its number."""
    for name, value in extra.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{before}{name}: ")
        elif isinstance(value, float | int):
            yield f"{before}{name}", f"{value:g}"
