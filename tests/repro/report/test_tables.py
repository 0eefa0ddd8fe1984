"""Tables in a runs folder that somebody has damaged: each is named, none is a traceback."""

import json

import pytest

from c3l.runtime.errors import UserError
from repro import profile
from repro.report.tables import find_tables

CELL = {"value": 1.0, "artefacts": ["a"], "unscored": None}
WHOLE = {"seeds": [0], "rows": [{"label": "x", "cells": {"SEED": CELL}}]}
DAMAGED = {
    "empty": "",
    "cut": json.dumps(WHOLE)[:40],
    "deep": "[" * 100_000,
    "latin": b'{"a": "\xe9"}',
    **{f"value {text}": text for text in ("[]", "null", "5", "NaN", '"rows"')},
    **{
        f"{key} {value}": json.dumps(WHOLE | {key: value})
        for key, value in (
            ("seeds", 3),
            ("seeds", None),
            ("seeds", []),
            ("rows", None),
            ("rows", {"a": 1}),
            ("rows", ["a"]),
            ("rows", [{"label": "x"}]),
            ("rows", [{"label": ["x"], "cells": {}}]),
            ("rows", [{"label": "x", "cells": [1]}]),
            ("rows", [{"label": "x", "cells": {"SEED": None}}]),
            ("rows", [{"label": "x", "cells": {"SEED": {}}}]),
        )
    },
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_table_is_named(content, tmp_path):
    (tmp_path / "pocket").mkdir()
    text = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "pocket" / "table4.json").write_bytes(text)
    with pytest.raises(UserError, match=r"no table in .*pocket that can be read .table4.json can"):
        find_tables(profile.load("pocket"), None, tmp_path)


def test_where_nothing_was_run_that_is_said(tmp_path):
    with pytest.raises(UserError, match=r"no table in .*pocket: run `python -m repro all`"):
        find_tables(profile.load("pocket"), None, tmp_path / "nowhere")
