"""Corpus cases tried one after another: what became of each, and the count for the report."""

from collections.abc import Callable, Iterable

from c3l.runtime.errors import UserError
from tests.faults import record
from tests.faults.corpus.generate import Case


def is_a_sentence(text: str) -> bool:
    """Whether an error is what a person is meant to read: one line, not a page."""
    return bool(text.strip()) and text.isprintable() and len(text) < 1500


def try_all(cases: Iterable[Case], outcome: Callable[[Case], str], area: str = "bad input") -> None:
    """Try every case; `outcome` gives its fate, or raises UserError where it is refused.

    A fate may say more than the corpus asks: "accepted 2" is "accepted". Anything but the fate
    that was asked for is a fault lost; all of them are named.
    """
    wrong: dict[str, list[str]] = {}
    counts: dict[str, list[int]] = {}
    for case in cases:
        try:
            fate = outcome(case)
        except UserError as error:
            fate = "refused" if is_a_sentence(str(error)) else f"no sentence: {str(error)!r:.300}"
        except Exception as error:
            fate = f"{type(error).__name__}: {error}"[:300]
        expected = ("accepted", "refused", "set aside") if case.fate == "any" else (case.fate,)
        good = fate.startswith(expected)
        counts.setdefault(case.kind, [0, 0])[0 if good else 1] += 1
        if not good:
            wrong.setdefault(case.kind, []).append(f"{case.name}: {fate} (not {case.fate})")
    for kind, (survived, lost) in counts.items():
        record.write(area, kind, survived=survived, lost=lost)
    assert counts, "no case was tried"
    assert not wrong, "\n".join(line for lines in wrong.values() for line in lines)
