"""Markdown from the findings about a table's claims (fields: `repro.analysis.compare`)."""

import re
from collections import Counter

from repro.render import markdown

VERDICTS = {
    "reproduced": "the whole interval of every difference is as the claim says",
    "not reproduced": "the whole interval of some difference is not as the claim says",
    "undecided": "some interval is partly as the claim says and none wholly otherwise (open; or "
    "cannot be decided here: P(reproduced) is below 0.8)",
    "untestable": "some number is missing and no interval is wholly otherwise",
}
BESIDE = "Beside: not the paper's measure; it does not count for the claim's verdict."
HOLDS = {
    "above": "Holds where every difference is above zero.",
    "below": "Holds where every difference is below zero.",
    "within": "Holds where every difference is less than {margin:g} either way ({why}), by two "
    "one-sided tests at 5%.",
}
CHANCES = (
    "P(reproduced): the chance of that verdict if the paper's difference is true, at the standard "
    "error measured here; P(not reproduced): if the true difference is zero. Of a whole claim: as "
    "if its differences were independent."
)


def render_claims(findings: dict) -> str:
    """Render the claims about a table, each with its verdict and the differences behind it."""
    counts = Counter(claim["verdict"] for claim in findings["claims"])
    summary = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    name = re.sub(r"(\d+)$", r" \1", findings["table"])
    parts = [f"**What the paper claims of {name}**, {findings['profile']} profile: {summary}."]
    parts += [_claim(claim, findings["profile"]) for claim in findings["claims"]]
    if findings["numbers"]:
        parts.append(_numbers(findings["numbers"], findings["profile"]))
    return "\n\n".join([*parts, _footer(findings, counts)]) + "\n"


def verdict_text(part: dict) -> str:
    """ "reproduced", or "beside: undecided (open)"."""
    detail = f" ({part['undecided']})" if part["undecided"] else ""
    return ("beside: " if part.get("beside") else "") + part["verdict"] + detail


def chance_texts(part: dict) -> list[str]:
    """P(reproduced) and P(not reproduced) of a claim or of a difference; dashes if unknown."""
    chances = (part[name] for name in ("power_if_paper", "false_alarm"))
    return ["–" if chance is None else f"{chance:.2f}" for chance in chances]


def whole_claim_text(claim: dict) -> str:
    """Chances of a claim's verdict and, of several differences, how many are reproduced."""
    texts = zip(("P(reproduced)", "P(not reproduced)"), chance_texts(claim), strict=True)
    parts = [f"{name} {chance}" for name, chance in texts if chance != "–"]
    if len(verdicts := [p["verdict"] for p in claim["pairs"] if not p["beside"]]) > 1:
        parts = [f"{verdicts.count('reproduced')} of {len(verdicts)} differences", *parts]
    return "; ".join(parts)


def _claim(claim: dict, profile: str) -> str:
    lines = []
    for pair in claim["pairs"]:
        names = [f"{pair['row']} − {pair['base']}", pair["column"]]
        measured = [f"untestable: {pair['untestable']}", "–", "–", "–", "–"]
        if difference := pair["difference"]:
            power = [f"{pair['n']}", f"{difference['detectable']:.1f}", *chance_texts(difference)]
            measured = [markdown.format_difference(difference), *power]
        paper = markdown.format_paper_value(pair["paper"], "+")
        lines.append([*names, paper, *measured, verdict_text(pair)])
    header = ["difference", "column", "paper", profile, "n", "detectable"]
    header += ["P(reproduced)", "P(not reproduced)", "verdict"]
    whole = f" Reproduced: {text}." if (text := whole_claim_text(claim)) else ""
    return (
        f"**{claim['id']}: {verdict_text(claim)}.** “{claim['sentence']}” ({claim['where']}) "
        + HOLDS[claim["holds"]].format(**claim)
        + whole
        + "\n\n"
        + markdown.grid(header, lines, word_columns=2)
    )


def _numbers(numbers: list[dict], profile: str) -> str:
    words, paper = {True: "yes", False: "no", None: "–"}, markdown.format_paper_value
    lines = [
        [n["row"], n["column"], paper(n["paper"]), markdown.format_cell(n), words[n["contains"]]]
        for n in numbers
    ]
    header = ["row", "column", "paper", profile, "interval contains the paper's"]
    return "**The paper's numbers.**\n\n" + markdown.grid(header, lines, word_columns=2)


def _footer(findings: dict, counts: Counter) -> str:
    """The numbers' provenance, and the meaning of the words."""
    seeds = f"data seeds {', '.join(map(str, findings['seeds']))}"
    if findings["tuning_seeds"]:
        seeds += f"; {findings['tuning_seeds']} tuning seeds for each"
    pairs = [pair for claim in findings["claims"] for pair in claim["pairs"]]
    columns = {pair["column"] for pair in pairs}
    units = [f"{name}, {unit}" for name, unit in findings["units"].items() if name in columns]
    lines = [
        f"Profile {findings['profile']}; {seeds}; commit {findings['commit']}.",
        f"Brackets: {findings['interval']}; differences are {markdown.PAIRED}.",
        f"Detectable: {markdown.DETECTABLE}. n: {'; '.join(units)}.",
        CHANCES,
        *(f"{name.capitalize()}: {words}." for name, words in VERDICTS.items() if counts[name]),
        *([BESIDE] if any(pair["beside"] for pair in pairs) else []),
        *findings["notes"],
    ]
    if findings["profile"] != "paper":
        lines.append(markdown.CANNOT_COMPARE.format(profile=findings["profile"]))
    return "\n".join(f"- {line}" for line in lines)
