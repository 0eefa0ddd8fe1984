"""Files of samples that are broken, or only look it: JSON lines, published JSON, parquet."""

import io
import json
import random
from collections.abc import Iterator

from tests.faults.corpus.generate import Case

ONE = {"id": "1", "image": "a.png", "question": "Why?", "answer": "So.", "meta": {"k": [1, "é"]}}
TWO = ONE | {"id": "2"}
TURN = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "So."}]
TALK = {"id": "7", "image": "a.png", "conversations": TURN}
REFUSED = "refused"


def line(record: object, **changes) -> str:
    return json.dumps(record | changes if changes else record, ensure_ascii=False)


def cases(rng: random.Random) -> Iterator[Case]:
    for name, content, fate in [*_broken(rng), *_wrong(), *_odd()]:
        content = content if isinstance(content, bytes) else content.encode()
        yield Case("JSON lines", name, content, fate, ".jsonl")
    for name, content, fate in _published(rng):
        content = content if isinstance(content, bytes) else content.encode()
        yield Case("published JSON", name, content, fate, ".json")
    for name, content, fate in _parquet(rng):
        yield Case("parquet", name, content, fate, ".parquet")


def _broken(rng: random.Random) -> Iterator[tuple]:
    whole = line(ONE)
    for k, end in enumerate(sorted(rng.sample(range(1, len(whole)), 15))):
        yield f"cut off after {end} characters ({k})", whole[:end], REFUSED
    for k in range(15):
        place = rng.randrange(len(whole))
        letter = rng.choice('{}[]",:\\x')
        damaged = whole[:place] + letter + whole[place + 1 :]
        # Another letter within a text is another text.
        try:
            same = isinstance(json.loads(damaged), dict) and set(json.loads(damaged)) == set(ONE)
        except ValueError:
            same = False
        if not same:
            yield f"a {letter} for character {place} ({k})", damaged, REFUSED
    yield "a comma at the end", f"{whole},", REFUSED
    yield "a comment", f"{whole} // so", REFUSED
    yield "single quotes", str(ONE), REFUSED
    yield "two objects in a line", whole + whole, REFUSED
    yield "the second line is cut", f"{whole}\n{line(TWO)[:30]}", REFUSED
    yield "a NUL", f"{whole}\0", REFUSED
    yield "a list of 100,000 levels", "[" * 100_000, REFUSED
    yield (
        "objects of 5,000 levels in meta",
        line(ONE).replace("[1", '{"a":' * 5000 + "1" + "}" * 5000 + ", [1"),
        REFUSED,
    )
    deep = '{"a":' * 150 + "1" + "}" * 150
    yield "objects of 150 levels in meta", line(ONE).replace('"k": [1', f'"k": [{deep}'), REFUSED
    deep = '{"a":' * 90 + "1" + "}" * 90
    yield "objects of 90 levels in meta", line(ONE).replace('"k": [1', f'"k": [{deep}'), "accepted"
    yield "a number of 10,000 digits", line(ONE).replace("[1", "[" + "9" * 10_000), REFUSED
    yield "a number of 1,000 digits", line(ONE).replace("[1", "[" + "9" * 1000), "accepted"


def _wrong() -> Iterator[tuple]:
    values = {"null": None, "a number": 3, "a list": ["a"], "an object": {"a": 1}, "true": True}
    for field in ("id", "image", "question", "answer", "instruction"):
        for said, value in values.items():
            yield f"{said} for {field}", line(ONE, **{field: value}), REFUSED
    for said, value in (values | {"text": "a"}).items():
        if said != "an object":
            yield f"{said} for meta", line(ONE, meta=value), REFUSED
    for field in ("id", "image", "question", "answer"):
        yield f"no {field}", line({k: v for k, v in ONE.items() if k != field}), REFUSED
    yield "an unknown field", line(ONE, colour="red"), REFUSED
    yield "an unknown field of 100,000 letters", line(ONE, **{"c" * 100_000: 1}), REFUSED
    yield "an unknown class", line(ONE, instruction="poem"), REFUSED
    yield "a list of a million numbers for an answer", line(ONE, answer=[1] * 1_000_000), REFUSED
    for said, record in {"list": [], "text": "a", "number": 3, "null": None}.items():
        yield f"a {said} for a record", json.dumps(record), REFUSED
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        yield f"{number} in meta", line(ONE).replace("[1", f"[{number}"), REFUSED
    for field in ("id", "image", "question", "answer"):
        half = line(ONE).replace(f'"{field}": "', f'"{field}": "\\ud83d')
        yield f"half a surrogate pair in {field}", half, REFUSED
    yield "half a surrogate pair in meta", line(ONE).replace("[1", '["\\udc00"'), REFUSED
    yield "half a surrogate pair as a key of meta", line(ONE).replace('"k"', '"\\ud800"'), REFUSED
    yield "a key twice", line(ONE).replace('"id"', '"id": "0", "id"'), REFUSED
    yield "a key of meta twice", line(ONE).replace('"k"', '"k": 0, "k"'), REFUSED


def _odd() -> Iterator[tuple]:
    both = f"{line(ONE)}\n{line(TWO)}\n"
    yield "nothing", b"", "accepted 0"
    yield "nothing but white space", b"\n \n\t\r\n", "accepted 0"
    yield "CRLF", both.replace("\n", "\r\n"), "accepted 2"
    yield "CR alone", both.replace("\n", "\r"), REFUSED
    yield "a byte order mark", "\ufeff" + both, "accepted 2"
    yield "a byte order mark in line 2", both.replace("\n", "\n\ufeff", 1), REFUSED
    yield "blank lines", both.replace("\n", "\n\n \n"), "accepted 2"
    yield "no line feed at the end", both.rstrip(), "accepted 2"
    yield "a line separator in a text", line(ONE, answer="a\u2028b\u0085c\x1dd\x0be"), "accepted"
    yield "a pair of surrogates, escaped", line(ONE).replace("Why", "\\ud83d\\ude00"), "accepted"
    for encoding in ("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7", "cp037"):
        # UTF-7's own spelling of é is plain ASCII, and JSON: no reader can know it for another.
        fate = "accepted 2" if encoding == "utf-7" else REFUSED
        yield f"in {encoding}", both.encode(encoding), fate
    yield "compressed", b"\x1f\x8b\x08" + bytes(range(100)), REFUSED
    yield "overlong UTF-8", both.encode().replace(b"Why", b"\xc0\xaf"), REFUSED
    yield "surrogates in UTF-8", both.encode().replace(b"Why", b"\xed\xa0\x80"), REFUSED
    yield "an id twice", line(ONE) * 1 + "\n" + line(ONE, answer="Or so."), "accepted 2"
    yield "a megabyte of question", line(ONE, question="why " * 250_000), "accepted"
    yield "an empty answer", line(ONE, answer=""), "accepted"
    yield "an answer of control characters", line(ONE, answer="\x00\x1b[2J\x7f"), "accepted"
    yield "special tokens", line(ONE, question="<image></s><s>[INST]"), "accepted"
    yield "text from right to left", line(ONE, answer="\u202eabc\u202c"), "accepted"


def _published(rng: random.Random) -> Iterator[tuple]:
    whole = json.dumps([TALK])
    for end in sorted(rng.sample(range(1, len(whole)), 6)):
        yield f"cut off after {end} characters", whole[:end], REFUSED
    yield "an object for the list", json.dumps(TALK), REFUSED
    yield "no record", "[]", "accepted 0"
    yield "nothing", "", REFUSED
    yield "a byte order mark", "\ufeff" + whole, "accepted 1"
    yield "in utf-16", whole.encode("utf-16"), REFUSED
    yield "in latin-1", whole.replace("Why", "Où").encode("latin-1"), REFUSED
    yield "CRLF", json.dumps([TALK], indent=1).replace("\n", "\r\n"), "accepted 1"
    yield "an id twice, as LLaVA has it", json.dumps([TALK, TALK]), "accepted 2"
    yield "a number for an id", json.dumps([TALK | {"id": 7}]), "accepted 1"
    yield "NaN in another field", whole.replace('"7"', '"7", "score": NaN'), REFUSED
    yield (
        "half a surrogate pair in another field",
        whole.replace('"7"', '"7", "x": "\\ud800"'),
        REFUSED,
    )
    yield "a number of 10,000 digits", whole.replace('"7"', "7" * 10_000), REFUSED
    yield "levels without end", "[" * 100_000, REFUSED
    yield "a field of 200,000 letters and no other", json.dumps([{"c" * 200_000: 1}]), REFUSED
    wrong = {
        "gpt speaks first": TURN[::-1],
        "the human alone": TURN[:1],
        "no message": [],
        "text for messages": "Why?",
        "a message without text": [{"from": "human"}, {"from": "gpt", "value": "a"}],
        "a message of null": [None, None],
        "a number for a text": [{"from": "human", "value": 1}, {"from": "gpt", "value": "a"}],
    }
    for name, messages in wrong.items():
        yield name, json.dumps([TALK | {"conversations": messages}]), REFUSED
    for field in ("id", "image"):
        for said, value in {"null": None, "a list": [], "true": True, "1.5": 1.5}.items():
            fate = "accepted 1" if (field, value) == ("id", None) else REFUSED
            yield f"{said} for {field}", json.dumps([TALK | {field: value}]), fate


def _parquet(rng: random.Random) -> Iterator[tuple]:
    import pyarrow
    import pyarrow.parquet

    def file(columns: dict, **schema) -> bytes:
        buffer = io.BytesIO()
        table = pyarrow.table(columns, **schema)
        pyarrow.parquet.write_table(table, buffer, compression="none")
        return buffer.getvalue()

    columns = {name: [value] for name, value in ONE.items() if name != "meta"}
    whole = file(columns)
    yield "whole", whole, "accepted 1"
    yield "nothing", b"", REFUSED
    yield "text", b"nonsense" * 10, REFUSED
    for share in (0.1, 0.5, 0.9, 0.99):
        yield f"cut after {share:.0%}", whole[: int(share * len(whole))], REFUSED
    for k in range(4):
        damaged = bytearray(whole)
        # the footer's length, and its Thrift
        damaged[len(whole) - 8 - rng.randrange(40)] ^= 0xFF
        yield f"a damaged footer ({k})", bytes(damaged), "any"
    yield "numbers for ids", file(columns | {"id": [1]}), REFUSED
    yield "null for an answer", file(columns | {"answer": [None]}), REFUSED
    yield "bytes for an answer", file(columns | {"answer": [b"\xff"]}), REFUSED
    yield "a column less", file({k: v for k, v in columns.items() if k != "image"}), REFUSED
    yield "a column more", file(columns | {"colour": ["red"]}), REFUSED
    yield "meta that is no JSON", file(columns | {"meta": ["{"]}), REFUSED
    yield "meta as a structure", file(columns | {"meta": [{"a": 1}]}), "accepted 1"
    yield "NaN in a structure", file(columns | {"meta": [{"a": float("nan")}]}), REFUSED
    yield "bytes in a structure", file(columns | {"meta": [{"a": b"a"}]}), REFUSED
    text = pyarrow.array([b"\xff\xfe"]).cast(pyarrow.binary())
    no_text = pyarrow.Array.from_buffers(pyarrow.string(), 1, text.buffers())
    yield "a text that is not UTF-8", file(columns | {"answer": no_text}), REFUSED
