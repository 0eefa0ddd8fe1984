"""People's data, whatever is odd in them: nothing is lost, and what is written is read again."""

import json
from copy import deepcopy
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from c3l.data.scored import write_scores_into
from c3l.runtime.errors import UserError
from c3l.samples import read_data
from tests.c3l.people import ANSWER, ASK, MORE, READ, SAY, SET_ASIDE, llava

WHITE = st.text(st.sampled_from(" \t\r\n"), max_size=3)
WORDS = st.lists(
    st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1), max_size=4
)
JUNK = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({})
KNOWN = [*READ.values(), *(value for _, value in SET_ASIDE.values()), llava(ASK, SAY, *MORE)]


@st.composite
def records(draw):
    """A record of some layout, of which a part may be gone, or something else."""
    record = deepcopy(draw(st.sampled_from(KNOWN)))
    if not isinstance(record, dict) or draw(st.booleans()):
        return record
    parts = [record, *(m for t in ("conversations", "messages") for m in _objects(record.get(t)))]
    part = draw(st.sampled_from(parts))
    name = draw(st.sampled_from(sorted(part) or ["x"]))
    if draw(st.booleans()):
        part.pop(name, None)
    else:
        part[name] = draw(JUNK)
    return record


def _objects(value):
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def read(folder: Path, suffix: str, given: list):
    path = folder / f"in{suffix}"
    lines = [json.dumps(record) for record in given]
    path.write_text(json.dumps(given) if suffix == ".json" else "".join(f"{x}\n" for x in lines))
    return read_data(path)


def records_of(path: Path) -> list:
    text = path.read_text(encoding="utf-8")
    # Not splitlines, which also ends a line at characters that JSON leaves as they are.
    return json.loads(text) if path.suffix == ".json" else [*map(json.loads, text.split("\n")[:-1])]


@given(WORDS, st.data())
def test_the_place_of_the_image_is_anywhere(tmp_path_factory, words, data):
    k = data.draw(st.integers(0, len(words)))
    question = f"{data.draw(WHITE)}<image>{data.draw(WHITE)}".join(
        " ".join(some) for some in (words[:k], words[k:])
    )
    talk = llava({"from": "human", "value": question}, SAY)
    found = read(tmp_path_factory.mktemp("place"), ".json", [talk]).samples
    assert [(s.question, s.answer) for s in found] == [(" ".join(words), ANSWER)]


@settings(max_examples=60)
@given(st.lists(records(), min_size=1, max_size=6), st.sampled_from([".json", ".jsonl"]))
def test_in_is_out_and_set_aside(tmp_path_factory, given, suffix):
    """Every record comes back in its place and shape, and all of its turns are accounted for."""
    folder = tmp_path_factory.mktemp("data")
    try:
        data = read(folder, suffix, given)
    except UserError as error:
        assert "can be a sample" in str(error)
        return
    assert [record.value for record in data.records] == given
    assert len(data.samples) + len(data.left_out) == len(data.turns) >= len(given)
    said = [{"i2c": float(k), "tokens": k} for k in range(len(data.samples))]
    said[0] = {"unscored": "empty_answer"}
    for out in (folder / "1" / f"in{suffix}", folder / "2" / f"in{suffix}"):
        out.parent.mkdir()
        write_scores_into(data, out, said)
        written = records_of(out)
        values, reasons = [], []
        for record, before in zip(written, given, strict=True):
            names = ("i2c", "tokens", "unscored")
            bare = {k: v for k, v in record.items() if k not in names}
            assert bare == (before if isinstance(before, dict) else {"record": before})
            several = isinstance(record["i2c"], list)
            values += record["i2c"] if several else [record["i2c"]]
            why = record.get("unscored")
            reasons += (why or [None] * len(record["i2c"])) if several else [why]
        assert len(values) == len(reasons) == len(data.turns)
        assert all(
            (value is None) != (why is None) for value, why in zip(values, reasons, strict=True)
        )
        assert sum(value is not None for value in values) == len(data.samples) - 1
        # What was written is read again as it was: the scores of before are no part of it.
        data, before = read_data(out), data
        assert [s.id for s in data.samples] == [s.id for s in before.samples]
        assert [s.question for s in data.samples] == [s.question for s in before.samples]
        assert [s.meta.get("i2c") for s in data.samples] == [w.get("i2c") for w in said]
        assert [(x.name, x.reason) for x in data.left_out] == [
            (x.name, x.reason) for x in before.left_out
        ]
        given = records_of(out)
        given = [{k: v for k, v in r.items() if k not in names} for r in given]
