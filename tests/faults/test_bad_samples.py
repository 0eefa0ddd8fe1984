"""Files of samples: read rightly, or refused in one sentence that names file and place."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l.runtime import parsing
from c3l.runtime.errors import UserError
from c3l.samples import read_data, read_samples, write_samples
from tests.faults.corpus.generate import CORPUS, cases, of
from tests.faults.outcome import is_a_sentence, try_all

FILES = ("JSON lines", "published JSON", "parquet")


def test_the_corpus_is_what_its_seed_makes():
    """At least 300 cases, and none that changed without anybody seeing it."""
    found = cases()
    assert [json.loads(line) for line in CORPUS.read_text().splitlines()] == [
        case.record() for case in found
    ]
    assert len(found) >= 300
    assert min(Counter(case.kind for case in found).values()) >= 20


def test_files_of_samples(tmp_path):
    def outcome(case):
        path = tmp_path / f"file{case.file}"
        path.write_bytes(case.content)
        try:
            samples = read_samples(path)
        except UserError as error:
            assert str(path) in str(error)
            raise
        for suffix in (".jsonl", ".parquet"):  # what was accepted can be written and read again
            write_samples(tmp_path / f"again{suffix}", samples)
            assert read_samples(tmp_path / f"again{suffix}") == samples
        return f"accepted {len(samples)}"

    try_all(of(*FILES), outcome)


def test_files_of_people(tmp_path):
    """A file that is damaged is refused; a record that is odd is set aside, and nothing is lost."""

    def outcome(case):
        path = tmp_path / f"file{case.file}"
        path.write_bytes(case.content)
        data = read_data(path)
        assert len(data.samples) + len(data.left_out) == len(data.turns) >= len(data.records)
        write_samples(tmp_path / "again.jsonl", data.samples)
        assert read_data(tmp_path / "again.jsonl").samples == data.samples
        return case.fate if case.fate == "refused" else f"accepted {len(data.samples)}"

    try_all(of(*FILES), outcome)


def test_an_odd_record_does_not_take_the_others_with_it(tmp_path):
    """What is refused as the only record of a file, unless the file itself is damaged."""
    lines, fates = b"", []
    for case in of("JSON lines"):
        if " for character " in case.name:  # which may be another name of a field
            continue
        if case.content.count(b"\n") == 0 and case.fate == "refused" and _is_json(case.content):
            lines, fates = lines + case.content + b"\n", [*fates, case.name]
    good = json.dumps({"id": "1", "image": "a.png", "question": "Why?", "answer": "So."})
    (tmp_path / "a.jsonl").write_bytes(good.encode() + b"\n" + lines)
    data = read_data(tmp_path / "a.jsonl")
    assert len(fates) > 40 and len(data.records) == 1 + len(fates)
    read = {fates[int(s.location.split("line ")[1]) - 2] for s in data.turns[1:] if s.sample}
    # Fields of other projects, and names that are numbers or missing, are no fault.
    assert read == {
        "a number for id",
        "null for id",
        "no id",
        "a number for image",
        "an unknown field",
        "an unknown field of 100,000 letters",
        "an unknown class",
        "a list for image",
    } | {name for name in read if name.endswith(("for instruction", "for meta"))}


def _is_json(content):
    try:
        parsing.check_depth(parsing.from_json(content.decode()))
        return True
    except ValueError:
        return False


@given(st.binary(max_size=200), st.sampled_from([".jsonl", ".json", ".parquet"]))
def test_any_bytes(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    path.write_bytes(content)
    for read in (read_samples, read_data):
        try:
            read(path)
        except UserError as error:
            assert is_a_sentence(str(error)) and str(path) in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
RECORD = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("id", "image", "question", "answer", "meta", "x"), JSON | st.text()),
)


@given(st.lists(RECORD | JSON, max_size=4))
def test_any_json(tmp_path_factory, records):
    """Every line becomes one sample, or the file is refused: none is left out."""
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    try:
        samples = read_samples(path)
    except UserError as error:
        assert is_a_sentence(str(error)) and "line " in str(error)
    else:
        assert len(samples) == len(records)
        write_samples(path, samples)
        assert read_samples(path) == samples


@pytest.mark.parametrize("name", ["a list of 100,000 levels", "NaN in meta", "in utf-16"])
def test_the_command_line_says_it_in_one_sentence(tmp_path, name):
    (case,) = (case for case in of("JSON lines") if case.name == name)
    path = tmp_path / "samples.jsonl"
    path.write_bytes(case.content)
    arguments = ["score", path, "--backbone", "none", "--images", tmp_path, "--out", "x.parquet"]
    command = [sys.executable, "-m", "c3l", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert is_a_sentence(done.stderr.rstrip("\n")) and f"{path}, line 1" in done.stderr
