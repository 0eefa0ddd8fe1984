"""Samples survive every format; bad files are named; writing is atomic; images stay inside."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from c3l.instructions import CLASSES
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder, Sample, read_records, read_samples, write_samples

FORMATS = (".jsonl", ".json", ".parquet")
SAMPLES = st.builds(
    Sample,
    id=st.text(),
    image=st.text(),
    question=st.text() | st.sampled_from(["<image>\n", "\n<image>", "<image>\nWhy?\u2028"]),
    answer=st.text(),
    instruction=st.sampled_from(("", *CLASSES)),
    meta=st.dictionaries(
        st.text().filter(lambda k: k not in ("id", "image", "conversations", "instruction")),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()),
        max_size=3,
    ),
    history=st.lists(st.tuples(st.text(), st.text()), max_size=2),
)
ONE = {"id": "1", "image": "a.png", "question": "Why?", "answer": "So."}
TURN = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "So."}]
MORE = [{"from": "human", "value": "And?"}, {"from": "gpt", "value": "Done."}]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(samples=st.lists(SAMPLES, max_size=4))
def test_every_format_gives_back_what_was_written(tmp_path, samples):
    for suffix in FORMATS:
        path = tmp_path / f"samples{suffix}"
        write_samples(path, samples)
        expected = [in_llava(sample) for sample in samples] if suffix == ".json" else samples
        assert read_samples(path) == expected
        write_samples(path, expected)
        assert read_samples(path) == expected
    assert len(list(tmp_path.iterdir())) == len(FORMATS)


def in_llava(sample):
    """A placeholder in a question is none to the model, nor is white space around the question."""
    return replace(sample, question=sample.question.replace("<image>", "< image>").strip())


def test_samples_are_read_without_importing_torch():
    code = "import sys, c3l; c3l.read_samples, c3l.Sample; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_llava_turns_become_samples(tmp_path):
    path = tmp_path / "llava.json"
    record = {"id": "7", "image": "a.png", "conversations": TURN + MORE, "source": "coco"}
    end = [{"from": "human", "value": "Why?\n<image>"}, {"from": "gpt", "value": "So."}]
    single = {"id": "8", "image": "b.png", "conversations": end}
    path.write_text(json.dumps([record, single]))
    assert read_samples(path) == [
        Sample("7-0", "a.png", "Why?", "So.", meta={"source": "coco"}),
        Sample("7-1", "a.png", "And?", "Done.", "", {"source": "coco"}, (("Why?", "So."),)),
        Sample("8", "b.png", "Why?", "So."),
    ]


def test_records_of_question_and_answer(tmp_path):
    """LRV names images without a suffix and has no ids; ComVint's layout is found by its fields."""
    path = tmp_path / "filter_cap1.json"
    lrv = {"image_id": "2392588", "question": "Why?", "answer": "So.", "task": "positive"}
    comvint = {"image": "a.png", "question": "<image>\nWhy?", "answer": "So."}
    path.write_text(json.dumps([lrv, comvint, lrv | {"image_id": 7, "id": 3}]))
    assert read_samples(path) == [
        Sample("filter_cap1-1", "2392588", "Why?", "So.", meta={"task": "positive"}),
        Sample("filter_cap1-2", "a.png", "Why?", "So."),
        Sample("3", "7", "Why?", "So.", meta={"task": "positive"}),
    ]


def test_a_conversation_keeps_what_looks_like_another_layout_in_meta(tmp_path):
    path = tmp_path / "a.json"
    more = {"image_id": 7, "question": "Which?", "answer": "That."}
    path.write_text(json.dumps([{"id": "1", "image": "a.png", "conversations": TURN} | more]))
    assert read_samples(path) == [Sample("1", "a.png", "Why?", "So.", meta=more)]


def test_the_turns_of_a_record_stay_together(tmp_path):
    path = tmp_path / "a.json"
    record = {"id": "7", "image": "a.png", "conversations": TURN + MORE}
    path.write_text(json.dumps([record, record | {"id": "8", "conversations": TURN}]))
    assert [[turn.id for turn in record] for record in read_records(path)] == [
        ["7-0", "7-1"],
        ["8"],
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(ONE)}\n" * 2)
    assert [len(record) for record in read_records(path)] == [1, 1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"id": "1"}', "line 1, field image: missing"),
        ("a.jsonl", json.dumps(ONE) + "\n{", "line 2: not JSON"),
        ("a.jsonl", json.dumps(ONE | {"answer": 3}), "line 1, field answer: expected str, got 3"),
        ("a.jsonl", json.dumps(ONE | {"colour": "red"}), "line 1, field colour: unknown"),
        ("a.jsonl", json.dumps(ONE | {"instruction": "x"}), "line 1, field instruction: none of"),
        ("a.jsonl", json.dumps(ONE | {"answer": "\ud800"}), "field answer: not valid Unicode"),
        ("a.jsonl", "[]", "line 1: expected an object"),
        ("a.jsonl", b"\xff\xfe", "not UTF-8"),
        ("a.json", "{}", "expected a list of LLaVA records"),
        ("a.json", "[3]", "record 1: expected an object"),
        ("a.json", '[{"id": "1", "image": "a"}]', "record 1, field conversations"),
        ("a.json", json.dumps([{"id": "1", "conversations": TURN}]), "record 1, field image: miss"),
        ("a.json", json.dumps([{"conversations": TURN[::-1]}]), 'message 1: expected one "from"'),
        ("a.json", json.dumps([{"conversations": TURN[:1]}]), "expected pairs"),
        ("a.json", json.dumps([{"conversations": [{"from": "human"}] * 2}]), "not text"),
        ("a.json", '[{"image": "a", "text": "b"}]', "its fields (image, text) are of no layout"),
        ("a.json", '[{"image": "a", "question": "b"}]', "question and answer are not both there"),
        ("a.json", '[{"image": 1.5, "question": "", "answer": ""}]', "field image: expected str"),
        ("a.json", '[{"image": "a", "question": 3, "answer": ""}]', "field question: expected"),
        ("a.json", '[{"question": "a", "answer": "b"}]', "record 1, field image: missing"),
        ("a.parquet", "nonsense", "not a whole parquet file"),
        ("a.csv", "", "unknown format; use a name ending in .jsonl, .json, .parquet"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read_samples(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_samples(tmp_path / "none.jsonl")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_failed_write_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"samples{suffix}"
    write_samples(path, [Sample("1", "a.png", "Why?", "So.")])
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_samples(path, [Sample("1", "a.png", "Why?", "So.", meta={"not JSON": object()})])
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_samples(tmp_path / "none" / "a.jsonl", [])


def test_meta_may_not_replace_llavas_own_fields(tmp_path):
    with pytest.raises(UserError, match="meta may not hold image"):
        write_samples(tmp_path / "a.json", [Sample("1", "a", "q", "a", meta={"image": "b"})])


def test_images_are_rgb_and_upright(tmp_path):
    picture = Image.new("L", (2, 4))
    exif = picture.getexif()
    exif[0x0112] = 6  # rotated by a quarter turn
    (tmp_path / "deep").mkdir()
    picture.save(tmp_path / "deep" / "a.jpg", exif=exif)
    (tmp_path / "notes.txt").write_text("no image")
    folder = ImageFolder(tmp_path)
    assert folder.names() == ["deep/a.jpg"]
    assert folder["deep/a.jpg"].mode == "RGB"
    assert folder["deep/a.jpg"].size == (4, 2)
    assert folder["deep/a.jpg"] is folder["deep/a.jpg"]


def test_images_are_kept_up_to_so_many_bytes(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (10, 10)).save(tmp_path / name)
    Image.new("RGB", (100, 10)).save(tmp_path / "large.png")
    folder = ImageFolder(tmp_path, memory=2 * 300)
    a, b, _ = (folder[name] for name in ("a.png", "b.png", "c.png"))  # the third takes a's place
    assert folder["large.png"] is not folder["large.png"]
    assert folder["b.png"] is b
    assert folder["a.png"] is not a


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/etc/passwd", ".."])
def test_images_outside_are_refused(tmp_path, name):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    with pytest.raises(UserError, match="lies outside"):
        ImageFolder(tmp_path / "in")[name]


def test_an_absolute_path_into_the_folder_is_one_of_its_images(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("in/a.png", "b.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for folder in (ImageFolder(tmp_path / "in"), ImageFolder("in")):
        assert folder[str(tmp_path / "in" / "a.png")].size == (2, 2)
        for name in ("b.png", "in/../b.png"):
            with pytest.raises(UserError, match="lies outside"):
                folder[str(tmp_path / name)]


def test_missing_and_broken_images(tmp_path):
    Image.effect_noise((64, 64), 90).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("no image")
    os.mkdir(tmp_path / "folder.png")
    folder = ImageFolder(tmp_path)
    with pytest.raises(UserError, match=r"none\.png is missing"):
        folder["none.png"]
    for name in ("cut.png", "text.png", "folder.png", "nul\0.png", ""):
        with pytest.raises(UserError, match="cannot be read"):
            folder[name]
    with pytest.raises(UserError, match="is no folder"):
        ImageFolder(tmp_path / "none")
