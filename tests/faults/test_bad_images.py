"""Images: shown as a viewer shows them, or set aside and counted by the reason."""

import logging
import os
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.evaluate import evaluate
from c3l import relevance
from c3l.backbones import load_backbone
from c3l.runtime.errors import ImageError, UserError
from c3l.samples import ImageFolder, Sample
from c3l.scores import unscored
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone
from tests.faults.corpus.generate import of
from tests.faults.outcome import is_a_sentence, try_all


def look(folder: ImageFolder, name: str) -> str:
    """What becomes of an image: its first pixel, or why it is set aside."""
    try:
        image = folder[name]
    except ImageError as error:
        assert is_a_sentence(str(error))
        return f"set aside: {error.reason}"
    assert image.mode == "RGB"
    return "accepted {},{},{}".format(*image.getpixel((0, 0)))


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    """The folder that tests.faults.corpus.paths tells of."""
    root = tmp_path_factory.mktemp("odd")
    for place in ("in/deep", "in/folder.png", "elsewhere/in"):
        (root / place).mkdir(parents=True)
    picture = Image.new("RGB", (24, 24))
    for place in ("in/a.png", "in/deep/a.png", "elsewhere/in/a.png"):
        picture.save(root / place)
    for place in ("secret.png", "elsewhere/secret.png"):
        picture.save(root / place)
    (root / "in" / "link").symlink_to(root / "elsewhere" / "in")
    os.mkfifo(root / "in" / "pipe.png")
    return root / "in"


def test_images(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "c3l")

    def outcome(case):
        path = tmp_path / f"image{case.file}"
        path.write_bytes(case.content)
        caplog.clear()
        fate = look(ImageFolder(tmp_path), path.name)
        said = "is animated; its first frame is used" in caplog.text
        assert said or "animated" not in case.name
        # JPEG's colours are those of the nearest cosine.
        return fate.replace("254,0,0", "255,0,0")

    try_all(of("image"), outcome)


def test_names_of_images(odd_folder):
    folder = ImageFolder(odd_folder)
    try_all(of("image path"), lambda case: look(folder, case.content.decode()))


def test_every_sample_is_scored_or_counted(tmp_path, odd_folder, tiny_llava):
    """in = out + set aside, from files to scores; what is bad costs nothing of what is good."""
    samples, fates = [], Counter()
    for number, case in enumerate(of("image", "image path")):
        name = case.content.decode() if case.kind == "image path" else f"{number}{case.file}"
        if case.kind == "image":
            (odd_folder / name).write_bytes(case.content)
        samples.append(Sample(str(number), name, "What is it?", "A cup."))
        fates[case.fate.removeprefix("set aside: ").split(" ")[0]] += 1
    samples.append(Sample("empty", "a.png", "What is it?", " \n"))
    samples.append(Sample("long", "a.png", "What is it?", "cup " * 3000))
    scores = relevance.score(load_backbone(tiny_llava), samples, ImageFolder(odd_folder))
    assert [score.id for score in scores] == [sample.id for sample in samples]
    reasons = unscored(scores)
    either = fates.pop("any")
    good = fates.pop("accepted")
    assert good <= len(scores) - sum(reasons.values()) <= good + either
    assert reasons["empty_answer"] == reasons["longer_than_context"] == 1
    for reason, count in fates.items():
        assert count <= reasons[reason] <= count + either
    finite = [score.i2c for score in scores if score.unscored is None]
    assert all(value == value and abs(value) < float("inf") for value in finite)


@given(st.text())
def test_no_name_leaves_the_folder(odd_folder, name):
    """Whatever a name says, what is opened lies in the folder or behind the owner's own link."""
    folder, opened = ImageFolder(odd_folder), []
    folder._decoded = lambda path, _: opened.append(path) or Image.new("RGB", (1, 1))
    look(folder, name)
    for path in opened:
        assert path.is_relative_to(odd_folder) and os.pardir not in path.parts


@given(st.lists(st.sampled_from(["..", ".", "a", "link", "deep", "", "a.png"]), max_size=6))
def test_no_path_leaves_the_folder(odd_folder, parts):
    folder, opened = ImageFolder(odd_folder), []
    folder._decoded = lambda path, _: opened.append(path) or Image.new("RGB", (1, 1))
    look(folder, "/".join(parts))
    for path in opened:
        inside = (odd_folder.resolve(), (odd_folder / "link").resolve())
        assert any(path.resolve().is_relative_to(folder) for folder in inside)


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["nothing", "text", "cut"])
def test_a_damaged_image_of_a_benchmark_is_named(tmp_path, record_fault, content):
    folder = data.seedbench(tmp_path / "data", n=4)
    (path,) = folder.rglob("*.parquet")
    table = pyarrow.parquet.read_table(path)
    rows = table.to_pylist()
    picture = rows[2]["image"][0]
    picture["bytes"] = picture["bytes"][:60] if content is None else content
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), path)
    with record_fault("bad input", "a damaged image in a benchmark"):
        with pytest.raises(UserError, match=r"image of question \d+ of c3l_seedbench") as error:
            evaluate(TableBackbone({}, "A"), "seedbench", folder, tmp_path / "out")
        assert is_a_sentence(str(error.value))


def test_a_closed_gate_for_programs(tmp_path, monkeypatch):
    """A picture never starts a process: PostScript under an image's name would start one."""
    import subprocess

    def no(*args, **kwargs):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", no)
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    assert look(ImageFolder(tmp_path), "a.png") == "set aside: image_unreadable"
