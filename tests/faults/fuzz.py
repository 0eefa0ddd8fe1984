"""Coverage-guided fuzzing of everything that reads what others wrote, with atheris.

    python -m tests.faults.fuzz answers|samples|yaml|images [-max_total_time=900] [FOLDER]

It wants `pip install atheris` (Linux, and a Python it has a wheel for), which nothing else here
needs. Options and folder are libFuzzer's; the corpus's own cases are what it begins with. It stops
at the first input that raises anything but what its reader promises, and writes it to a file
crash-…: add that to tests/faults/corpus, then mend the reader.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

TEXTS = {
    "answers": ("model answer",),
    "samples": ("JSON lines", "published JSON"),
    "yaml": ("YAML", "--set"),
    "images": ("image",),
}
# Instrumented: the readers, and the pure Python beneath them.
WATCHED = ["c3l", "benchmarks.pocket", "benchmarks.judge.judge", "benchmarks.pope", "yaml", "PIL"]


def answers(content: bytes) -> None:
    from tests.faults.parsers import parse_anything

    parse_anything(content.decode("utf-8", "replace"))


def samples(content: bytes) -> None:
    from c3l.runtime.errors import UserError
    from c3l.samples import read_samples, write_samples

    for suffix in (".jsonl", ".json"):
        path = Path(FOLDER.name) / f"a{suffix}"
        path.write_bytes(content)
        try:
            found = read_samples(path)
        except UserError:
            continue
        write_samples(path.with_suffix(".jsonl"), found)
        assert read_samples(path.with_suffix(".jsonl")) == found


def yaml(content: bytes) -> None:
    from c3l.runtime.parsing import from_yaml

    with contextlib.suppress(ValueError):
        from_yaml(content.decode("utf-8", "replace"))


def images(content: bytes) -> None:
    from c3l.runtime.errors import ImageError
    from c3l.samples import ImageFolder

    path = Path(FOLDER.name) / "a.png"
    path.write_bytes(content)
    with contextlib.suppress(ImageError):
        assert ImageFolder(FOLDER.name)["a.png"].mode == "RGB"


FOLDER = tempfile.TemporaryDirectory()


def main() -> None:
    target, options = sys.argv[1], sys.argv[2:]
    with atheris.instrument_imports(include=WATCHED):
        import tests.faults.parsers  # noqa: F401  it imports all readers
        from tests.faults.corpus.generate import of
    seeds = Path(FOLDER.name) / "seeds"
    seeds.mkdir()
    for number, case in enumerate(of(*TEXTS[target])):
        if len(case.content) < 1000:
            (seeds / str(number)).write_bytes(case.content)
    folders = [option for option in options if not option.startswith("-")]
    found = Path(folders[0]) if folders else Path(FOLDER.name) / "found"
    found.mkdir(exist_ok=True)
    options = [option for option in options if option.startswith("-")]
    atheris.Setup([sys.argv[0], *options, str(found), str(seeds)], globals()[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
