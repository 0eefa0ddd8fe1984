"""YAML: profiles and the values of --set, from typing errors to texts that mean harm."""

import itertools
import random
from collections.abc import Iterator

from tests.faults.corpus.generate import Case

REFUSED, ACCEPTED = "refused", "accepted"


def _laughs(kind: str) -> str:
    names = "abcdefghij"
    lines = ["a: &a " + ("{x: 1, y: 2}" if kind == "merge" else "[x, x]")]
    for before, name in itertools.pairwise(names):
        ten = ", ".join([f"*{before}"] * 10)
        lines.append(f"{name}: &{name} " + (f"{{<<: [{ten}]}}" if kind == "merge" else f"[{ten}]"))
    return "\n".join(lines) + "\n"


# Lines behind those of a good profile, which has no readings and no name.
ADDED = {
    "nothing added": ("", ACCEPTED),
    "a comment": ("# so\n", ACCEPTED),
    "an anchor and its alias": ("readings: &a {blacklist: &b true, score_eos: *b}\n", ACCEPTED),
    "an unknown key": ("colour: red\n", REFUSED),
    "an unknown reading": ("readings: {mood: high}\n", REFUSED),
    "a number for a key": ("3: 4\n", REFUSED),
    "null for a key": ("~: 4\n", REFUSED),
    "a list for a key": ("? [a]\n: b\n", REFUSED),
    "a key twice": ("share: 0.2\n", REFUSED),
    "a wrong reading": ("readings: {score_form: sum}\n", REFUSED),
    "a list for readings": ("readings: [1]\n", REFUSED),
    "text for readings": ("readings: high\n", REFUSED),
    "a tab": ("\tcolour: red\n", REFUSED),
    "a colon too many": ("colour: red: blue\n", REFUSED),
    "an open list": ("colour: [1, 2\n", REFUSED),
    "an open quote": ('colour: "red\n', REFUSED),
    "a tag of Python": ("colour: !!python/object/apply:os.system [exit]\n", REFUSED),
    "another tag of Python": ("colour: !!python/name:os.system\n", REFUSED),
    "a tag of nobody's": ("colour: !mine 3\n", REFUSED),
    "a 13th month": ("colour: 2001-13-01\n", REFUSED),
    "no integer": ("colour: !!int x\n", REFUSED),
    "no truth": ("colour: !!bool x\n", REFUSED),
    "no date": ("colour: !!timestamp x\n", REFUSED),
    "a number of 5,000 digits": (f"colour: {'9' * 5000}\n", REFUSED),
    "an anchor that holds itself": ("colour: &a [*a]\n", REFUSED),
    "a mapping that holds itself": ("colour: &a {b: *a}\n", REFUSED),
    "an alias to nothing": ("colour: *a\n", REFUSED),
    "a merge of a number": ("colour: {<<: 3}\n", REFUSED),
    "a billion laughs": (_laughs("alias"), REFUSED),
    "a billion laughs by merging": (_laughs("merge"), REFUSED),
    "lists of 3,000 levels": (f"colour: {'[' * 3000}\n", REFUSED),
    "two documents": ("---\nname: b\n", REFUSED),
    "half a surrogate pair": ('name: "a\\ud800"\n', REFUSED),
    "a NUL, escaped": ('name: "a\\0b"\n', REFUSED),
    "a name that leaves the folder": ("name: ../../b\n", REFUSED),
    "a name with a separator": ("name: a/b\n", REFUSED),
    "an empty name": ('name: ""\n', REFUSED),
}

# Whole files.
WHOLE = {
    "nothing": (b"", REFUSED),
    "a list": (b"- a\n", REFUSED),
    "text": (b"hello\n", REFUSED),
    "a NUL": (b"a: \0\n", REFUSED),
    "in utf-16": ("a: é".encode("utf-16"), REFUSED),
    "in latin-1": ("a: é".encode("latin-1"), REFUSED),
    "JSON with a comma too many": (b'{"a": 1,, }', REFUSED),
    "random bytes": (random.Random(1).randbytes(300), REFUSED),
}

# Values of --set.
SET = {
    "sizes.final_images=5": ACCEPTED,
    "sizes.final_images=true": REFUSED,
    "share=yes": REFUSED,
    "sizes.final_images=1e3": REFUSED,  # YAML 1.1 wants a dot: this is text
    "training.vlit.learning_rate=1e-4": ACCEPTED,  # text that is a number
    "sizes.final_images=0": REFUSED,
    "sizes.final_images=-1": REFUSED,
    "sizes.final_images=1.5": REFUSED,
    "sizes.final_images=many": REFUSED,
    "sizes.final_images=": REFUSED,
    "sizes.final_images=[5]": REFUSED,
    "sizes.final_images": REFUSED,
    "sizes=3": REFUSED,
    "sizes.many=3": REFUSED,
    "sizes.final_images.more=3": REFUSED,
    "=3": REFUSED,
    ".=3": REFUSED,
    "": REFUSED,
    "share=.nan": REFUSED,
    "share=.inf": REFUSED,
    "share=0": REFUSED,
    "share=1.01": REFUSED,
    "training.vlit.learning_rate=.inf": REFUSED,
    "training.vlit.learning_rate=.nan": REFUSED,
    "training.vlit.batch_size=3": ACCEPTED,
    "training.vlit.accumulation=3": REFUSED,
    "readings.temperature=.inf": REFUSED,
    "readings.contrastive_weight=.nan": REFUSED,
    "readings.epochs=~": ACCEPTED,
    "readings.score_form=[literal_sum]": REFUSED,
    "expected.seconds={a: .inf}": REFUSED,
    "scoring.judge=http://user:secret@127.0.0.1/v1": REFUSED,
    "scoring.judge=file:///etc/passwd": REFUSED,
    "scoring.judge=sk-a-key": REFUSED,
    "scoring.judge_key=sk-a-key": REFUSED,
    "backbones={a: [*b]}": REFUSED,
    "backbones={1: 2}": REFUSED,
    "data=[[[[": REFUSED,
    "data=!!python/object/apply:os.system [exit]": REFUSED,
    "name=..": REFUSED,
    "resamples=" + "9" * 5000: REFUSED,
}


def cases(rng: random.Random) -> Iterator[Case]:
    for name, (text, fate) in ADDED.items():
        yield Case("YAML", f"added: {name}", text.encode(), fate, ".yaml")
    for name, (content, fate) in WHOLE.items():
        yield Case("YAML", f"whole: {name}", content, fate, ".yaml")
    for text, fate in SET.items():
        yield Case("--set", text[:60], text.encode(), fate)
