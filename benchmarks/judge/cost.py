"""How much a judge of LLaVA^W reads and writes, before it is asked. Imports no lmms-eval."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks.judge.judge import TOKENS

CHARACTERS = 4
"""Of English text in a token: OpenAI's own rule of thumb."""
REPLY = TOKENS
"""The most tokens of an ordinary judge's reply."""
RECORD = 1500
"""Characters of a question with its context and reference where there are no files: assumed."""


class TokenCount(NamedTuple):
    """Calls, and at most how many tokens are read and written in them all."""

    calls: int
    read: int
    written: int


def count_tokens(folder: Path, questions: int, answer: int, reply: int = REPLY) -> TokenCount:
    """Of one evaluation: lmms-eval's prompts about the records in `folder` and answers of at most
    `answer` characters, with replies of at most `reply` tokens; the question that tries the judge
    is one more.

    Without files there, `questions` records of RECORD characters.
    """
    longest = max(map(len, _rules()))
    found = _records(folder)
    if not found:
        found = [RECORD] * questions
    characters = sum(found) + (longest + answer) * len(found)
    calls = len(found) + 1
    return TokenCount(calls, characters // CHARACTERS * calls // len(found), calls * reply)


def _rules() -> list[str]:
    """lmms-eval's instructions to the judge, of LLaVA-Bench's three categories."""
    package = Path(find_spec("lmms_eval").origin).parent
    rules = json.loads((package / "tasks" / "llava-in-the-wild" / "rule.json").read_text("utf-8"))
    return [rule["prompt"] for name, rule in rules.items() if name.startswith("llava_bench_")]


def _records(folder: Path) -> list[int]:
    """Characters of each record's question, context and reference, with the marks around them."""
    import pyarrow
    import pyarrow.parquet

    marks = 120
    lengths = []
    columns = ("question", "caption", "gpt_answer")
    for file in sorted(folder.rglob("*.parquet")) if folder.is_dir() else []:
        try:
            table = pyarrow.parquet.read_table(file, columns=list(columns))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError, OSError):
            continue
        for row in table.to_pylist():
            texts = ("\n".join(t) if isinstance(t, list) else t or "" for t in row.values())
            lengths.append(marks + sum(map(len, texts)))
    return lengths
