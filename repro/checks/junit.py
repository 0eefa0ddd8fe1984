"""Results as JUnit XML, which continuous integration shows test by test."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """Result of one check."""

    name: str
    result: Literal["passed", "failed", "skipped"]
    message: str
    """Reason for failing or skipping, in one line."""
    seconds: float
    detail: str
    """The assertion, or the numbers."""


def xml(name: str, suites: Mapping[str, Sequence[Case]]) -> bytes:
    """`testsuites` of that name, a `testsuite` for each entry, a `testcase` for each case."""
    root = ET.Element("testsuites", name=name, **_counts([c for s in suites.values() for c in s]))
    for suite, cases in suites.items():
        skipped = str(sum(case.result == "skipped" for case in cases))
        group = ET.SubElement(root, "testsuite", name=suite, skipped=skipped, **_counts(cases))
        for case in cases:
            fields = {"classname": f"{name}.{suite}", "time": f"{case.seconds:.3f}"}
            test = ET.SubElement(group, "testcase", name=_clean(case.name), **fields)
            if case.result != "passed":
                kind = "failure" if case.result == "failed" else "skipped"
                ET.SubElement(test, kind, message=_clean(case.message)).text = _clean(case.message)
            ET.SubElement(test, "system-out").text = _clean(case.detail)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    failures, seconds = sum(c.result == "failed" for c in cases), sum(c.seconds for c in cases)
    return dict(tests=str(len(cases)), failures=str(failures), errors="0", time=f"{seconds:.3f}")


def _clean(text: str) -> str:
    """Replace characters that XML cannot hold."""
    return NOT_XML.sub("�", text)
