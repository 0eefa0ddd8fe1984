"""Profiles and --set: good ones work, all others are refused in one sentence, soon."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l.cli.app import run_app
from c3l.runtime.errors import UserError
from c3l.runtime.parsing import from_yaml
from repro.cli import app
from repro.profile import PROFILES, load
from tests.faults.corpus.generate import of
from tests.faults.outcome import is_a_sentence, try_all

POCKET = (PROFILES / "pocket.yaml").read_text()
GOOD = re.sub(r"^readings:\n(?:  .*\n)+", "", POCKET, flags=re.MULTILINE)


def test_profiles(tmp_path):
    assert GOOD != POCKET

    def outcome(case):
        added = case.name.startswith("added: ")
        path = tmp_path / "profile.yaml"
        path.write_bytes((GOOD.encode() if added else b"") + case.content)
        started = time.monotonic()
        try:
            load(str(path))
        finally:
            assert time.monotonic() - started < 5
        return "accepted"

    try_all(of("YAML"), outcome)


def test_values_of_set():
    def outcome(case):
        load("pocket", [case.content.decode()])
        return "accepted"

    try_all(of("--set"), outcome)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_is_a_value_or_refused(text):
    try:
        from_yaml(text)
    except ValueError as error:
        assert str(error)
    try:
        load("pocket", [f"sizes.final_images={text}"])
    except UserError as error:
        assert is_a_sentence(str(error))


TOKENS = [*"&*<:{}[],?-!|>'\"1x~\n", "&a", "*a", "<<"]


@given(st.lists(st.sampled_from(TOKENS)))
def test_any_yaml_tokens(tokens):
    try:
        from_yaml(" ".join(tokens))
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize("arguments", [["--set", "share=.nan"], ["--profile", "p" * 5000]])
def test_the_command_line_says_it_in_one_sentence(tmp_path, arguments, capsys, monkeypatch):
    command = ["repro", "plan", "table4", "--runs", str(tmp_path), *arguments]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        run_app(app, "")
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == "" and is_a_sentence(err.rstrip("\n"))
