"""The corpus of bad input: files and texts made from a seed, each with what must become of it.

    python -m tests.faults.corpus.generate      writes corpus.jsonl anew

corpus.jsonl holds every case's kind, name and fate, and the content of what is small text. Images
and parquet are made when they are tested: their bytes differ by the version of the library.

Fates: "accepted" (with how many samples or settings), "set aside" (with the reason it is counted
by), "refused" (one sentence, exit 2).
"""

import base64
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus.jsonl")
SEED = 0
SMALL = 2000  # bytes of content that are committed


@dataclass(frozen=True)
class Case:
    """One input. `name` says what is wrong with it; `file` is the suffix it is read under."""

    kind: str
    name: str
    content: bytes
    fate: str
    file: str = ""

    def record(self) -> dict:
        """What is committed of it."""
        record = {"kind": self.kind, "name": self.name, "fate": self.fate, "file": self.file}
        if self.kind not in ("image", "parquet") and len(self.content) <= SMALL:
            record["content"] = base64.b64encode(self.content).decode()
        return record


@cache
def cases() -> list[Case]:
    """All cases, the same each time."""
    from tests.faults.corpus import answers, images, paths, samples, settings

    found = [
        case
        for module in (samples, images, paths, settings, answers)
        for case in module.cases(random.Random(SEED))
    ]
    names = Counter((case.kind, case.name) for case in found)
    assert max(names.values()) == 1, names.most_common(1)
    return found


def of(*kinds: str) -> Iterator[Case]:
    """The cases of these kinds."""
    return (case for case in cases() if case.kind in kinds)


def main() -> None:
    found = cases()
    lines = [json.dumps(case.record(), sort_keys=True) for case in found]
    CORPUS.write_text("".join(f"{line}\n" for line in lines))
    for kind, count in Counter(case.kind for case in found).items():
        print(f"{count:4d} {kind}")
    print(f"{len(found):4d} cases")


if __name__ == "__main__":
    main()
