"""Markdown from the findings about a table's claims (fields: `repro.analysis.compare`)."""

import re
from collections import Counter

from tabulate import tabulate

from repro.render import markdown

VERDICTS = {
    "reproduced": "the whole interval of every difference is as the claim says",
    "not reproduced": "the whole interval of some difference is not as the claim says",
    "undecided": "some interval is partly as the claim says and none wholly otherwise",
    "untestable": "some number is missing and no interval is wholly otherwise",
}
HOLDS = {
    "above": "Holds where every difference is above zero.",
    "below": "Holds where every difference is below zero.",
    "within": "Holds where every difference is less than {margin:g} either way ({why}).",
}


def render_claims(found: dict) -> str:
    """The claims about a table, each with its verdict and the differences behind it."""
    counts = Counter(claim["verdict"] for claim in found["claims"])
    said = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    name = re.sub(r"(\d+)$", r" \1", found["table"])
    parts = [f"**What the paper claims of {name}**, {found['profile']} profile: {said}."]
    parts += [_claim(claim, found["profile"]) for claim in found["claims"]]
    if found["numbers"]:
        parts.append(_numbers(found["numbers"], found["profile"]))
    return "\n\n".join([*parts, _footer(found, counts)]) + "\n"


def _claim(claim: dict, profile: str) -> str:
    lines = []
    for pair in claim["pairs"]:
        difference = pair["difference"]
        paper = "–" if pair["paper"] is None else markdown.format_paper_value(pair["paper"], "+")
        if difference:
            ours = markdown.format_difference(difference)
            rest = [f"{pair['n']}", f"{difference['detectable']:.1f}"]
        else:
            ours, rest = f"untestable: {pair['untestable']}", ["–", "–"]
        names = [f"{pair['row']} − {pair['base']}", pair["column"]]
        lines.append([*names, paper, ours, *rest, pair["verdict"]])
    header = ["difference", "column", "paper", profile, "n", "detectable", "verdict"]
    return (
        f"**{claim['id']}: {claim['verdict']}.** “{claim['sentence']}” ({claim['where']}) "
        + HOLDS[claim["holds"]].format(**claim)
        + "\n\n"
        + _grid(header, lines)
    )


def _numbers(numbers: list[dict], profile: str) -> str:
    lines = [
        [
            number["row"],
            number["column"],
            markdown.format_paper_value(number["paper"]),
            markdown.format_cell(number),
            {True: "yes", False: "no", None: "–"}[number["contains"]],
        ]
        for number in numbers
    ]
    header = ["row", "column", "paper", profile, "interval contains the paper's"]
    return "**The paper's numbers.**\n\n" + _grid(header, lines)


def _grid(header: list[str], lines: list[list[str]]) -> str:
    """A table whose first two columns are words."""
    lines = [[text.replace("|", "\\|").replace("\n", " ") for text in line] for line in lines]
    align = ["left"] * 2 + ["right"] * (len(header) - 2)
    return tabulate(lines, header, tablefmt="pipe", colalign=align, disable_numparse=True)


def _footer(found: dict, counts: Counter) -> str:
    """How the numbers were made, and what the words mean."""
    seeds = f"data seeds {', '.join(map(str, found['seeds']))}"
    if found["tuning_seeds"]:
        seeds += f"; {found['tuning_seeds']} tuning seeds for each"
    used = {pair["column"] for claim in found["claims"] for pair in claim["pairs"]}
    counted = [f"{name}, {unit}" for name, unit in found["units"].items() if name in used]
    lines = [
        f"Profile {found['profile']}; {seeds}; commit {found['commit']}.",
        f"Brackets: {found['interval']}; differences are {markdown.PAIRED}.",
        f"Detectable: {markdown.DETECTABLE}. n: {'; '.join(counted)}.",
        *(f"{name.capitalize()}: {words}." for name, words in VERDICTS.items() if counts[name]),
        *found["notes"],
    ]
    if found["profile"] != "paper":
        lines.append(markdown.CANNOT_COMPARE.format(profile=found["profile"]))
    return "\n".join(f"- {line}" for line in lines)
