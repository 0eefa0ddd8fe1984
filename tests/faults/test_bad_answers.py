"""A model may answer anything: every parser bears it, and loses nothing without a count."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.corpus.answers import PIECES
from tests.faults.corpus.generate import of
from tests.faults.outcome import try_all
from tests.faults.parsers import parse_anything


def test_answers():
    def outcome(case):
        started = time.process_time()
        parse_anything(case.content.decode())
        assert time.process_time() - started < 20
        return "parsed"

    try_all(of("model answer"), outcome)


@settings(max_examples=150)
@given(st.text())
def test_any_text(text):
    parse_anything(text)


@settings(max_examples=150)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join))
def test_any_pieces(text):
    parse_anything(text)


@given(st.binary(max_size=300))
def test_any_bytes_a_tokenizer_decodes(content):
    parse_anything(content.decode("utf-8", "replace"))
