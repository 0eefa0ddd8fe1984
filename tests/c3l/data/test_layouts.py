"""People's data: every layout is read, what is no sample is set aside, nothing is lost."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from c3l.runtime.errors import ImageError, UserError
from c3l.samples import Sample, read_data, read_samples, write_samples
from tests.c3l.people import ANSWER, ASK, IMAGE, MORE, QUESTION, READ, SAY, SET_ASIDE, SPELLINGS
from tests.c3l.people import llava as record
from tests.faults.outcome import is_a_sentence


def write(path, records):
    """The records as a .json list, as lines, or as a table."""
    if path.suffix == ".json":
        path.write_text(json.dumps(records))
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize("name", READ)
def test_every_layout_is_the_same_sample(tmp_path, name, suffix):
    if (name, suffix) == ("an image in a part", ".parquet"):
        pytest.skip("a column of tables holds texts or lists, not both")
    data = read_data(write(tmp_path / f"a{suffix}", [READ[name]]))
    assert data.samples == [Sample("r", IMAGE, QUESTION, ANSWER)]
    assert data.left_out == []


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_the_place_of_the_image_is_no_part_of_the_question(tmp_path, suffix):
    talks = [record(ASK | {"value": spelling}, SAY) for spelling in SPELLINGS]
    bare = [{"image": IMAGE, "question": text, "answer": ANSWER} for text in SPELLINGS]
    ours = [{"id": "r"} | one for one in bare]
    data = read_data(write(tmp_path / f"a{suffix}", talks + bare + ours))
    assert {sample.question for sample in data.samples} == {QUESTION}
    assert len(data.samples) == 3 * len(SPELLINGS)
    lone = write(tmp_path / f"b{suffix}", [record(ASK | {"value": " <image>\n"}, SAY)])
    assert read_data(lone).samples[0].question == ""


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_what_is_no_sample_is_set_aside_by_its_reason(tmp_path, suffix):
    records = [READ["LLaVA"], *(value for _, value in SET_ASIDE.values()), READ["LLaVA"]]
    data = read_data(write(tmp_path / f"data{suffix}", records))
    assert [item.reason for item in data.left_out] == [why for why, _ in SET_ASIDE.values()]
    assert len(data.samples) == 2 and len(data.records) == len(records)
    unit = "record" if suffix == ".json" else "line"
    assert data.left_out[0].place == f"data{suffix}, {unit} 2"
    assert data.left_out[0].name == "t"


@pytest.mark.parametrize("name", SET_ASIDE)
def test_strict_refuses_it_with_its_place(tmp_path, name):
    path = write(tmp_path / "data.json", [READ["LLaVA"], SET_ASIDE[name][1]])
    with pytest.raises(UserError) as error:
        read_data(path, strict=True)
    assert f"{path}, record 2" in str(error.value) and is_a_sentence(str(error.value))


def test_the_turns_of_a_conversation_have_their_history(tmp_path):
    lone, after = {"from": "human", "value": "Well?"}, {"from": "gpt", "value": "And so on."}
    talk = [SAY, ASK, SAY, after, *MORE, lone, *MORE]
    data = read_data(write(tmp_path / "a.json", [record(*talk, source="coco")]))
    first, second = (QUESTION, ANSWER), ("Is it red?", "Yes.")
    assert data.samples == [
        Sample("r-1", IMAGE, *first, "", {"source": "coco"}),
        Sample("r-3", IMAGE, *second, "", {"source": "coco"}, (first,)),
        Sample("r-5", IMAGE, *second, "", {"source": "coco"}, (first, second)),
    ]
    assert [(item.name, item.place, item.reason) for item in data.left_out] == [
        ("r-0", "a.json, record 1, turn 1", "no_question"),
        ("r-2", "a.json, record 1, turn 3", "no_question"),
        ("r-4", "a.json, record 1, turn 5", "no_answer"),
    ]


def test_an_image_that_is_shown_later_is_in_no_turn_before(tmp_path):
    talk = record(*MORE, ASK, SAY)
    data = read_data(write(tmp_path / "a.json", [talk]))
    assert data.samples == [
        Sample("r-1", IMAGE, QUESTION, ANSWER, history=[("Is it red?", "Yes.")])
    ]
    assert [item.reason for item in data.left_out] == ["no_image"]


def test_a_turn_that_is_set_aside_shows_its_image_all_the_same(tmp_path):
    talk = record(*MORE, ASK, SAY | {"value": None}, *MORE)
    data = read_data(write(tmp_path / "a.json", [talk]))
    assert [(sample.id, sample.history) for sample in data.samples] == [
        ("r-2", (("Is it red?", "Yes."),))
    ]
    assert [item.reason for item in data.left_out] == ["no_image", "no_answer"]
    two = record(ASK, SAY | {"value": None}, ASK, SAY)
    assert read_data(write(tmp_path / "b.json", [two, record(ASK, SAY)])).left_out[0].reason == (
        "two_images"
    )


def test_a_score_of_a_record_is_of_none_of_its_turns(tmp_path):
    talks = [record(ASK, SAY, *MORE, i2c=i2c) for i2c in (3.5, [3.5], [1.0, 2.0])]
    talks += [record(ASK, SAY, i2c=i2c) for i2c in (3.5, [3.5])]
    samples = read_data(write(tmp_path / "a.json", talks)).samples
    values = [sample.meta.get("i2c") for sample in samples]
    assert values == [None, None, None, None, 1.0, 2.0, 3.5, 3.5]


def test_a_picture_in_the_folder_is_not_one_of_the_same_name_in_the_data(tmp_path):
    for k in range(2):
        Image.new("RGB", (24, 24), (k, 0, 0)).save(tmp_path / f"{k}.png")
    content = (tmp_path / "1.png").read_bytes()
    cells = [{"bytes": None, "path": "0.png"}, {"bytes": content, "path": "0.png"}]
    pair = {"question": QUESTION, "answer": ANSWER}
    for column, some in (("image", cells), ("images", [[cell] for cell in cells])):
        path = write(tmp_path / "a.parquet", [pair | {column: cell} for cell in some])
        data = read_data(path)
        shown = data.pictures(tmp_path)
        assert [shown[s.image].getpixel((0, 0))[0] for s in data.samples] == [0, 1]


def test_a_blank_answer_is_in_no_history(tmp_path):
    talk = record(ASK, SAY, MORE[0], SAY | {"value": " "}, *MORE)
    samples = read_data(write(tmp_path / "a.json", [talk])).samples
    assert [len(sample.history) for sample in samples] == [0, 1, 1]


def test_our_own_table_in_a_folder_is_read_as_the_file_is(tmp_path):
    """As `datasets` hands it over: a history that stays text would change the score."""
    talks = [record(ASK, SAY, *MORE, source="coco"), record(ASK, SAY, id="s")]
    samples = read_data(write(tmp_path / "a.json", talks)).samples
    (tmp_path / "folder").mkdir()
    write_samples(tmp_path / "folder" / "data.parquet", samples)
    assert read_data(tmp_path / "folder").samples == samples


def test_others_may_have_any_text_in_our_columns(tmp_path):
    some = {"question": QUESTION, "answer": ANSWER, "image": IMAGE, "meta": "coco", "history": ""}
    data = read_data(write(tmp_path / "a.parquet", [some]))
    assert [sample.meta for sample in data.samples] == [{"meta": "coco", "history": ""}]


def test_what_we_write_shows_one_image(tmp_path):
    sample = Sample("r", IMAGE, "Is <|image|> or <Img><ImageHere></Img> a tag?", "<image> is.")
    write_samples(tmp_path / "a.json", [sample])
    assert len(read_data(tmp_path / "a.json").samples) == 1


def test_a_file_of_another_format_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("id,image")
    with pytest.raises(UserError, match="unknown format"):
        read_data("data/a.csv")


def test_histories_survive_every_format(tmp_path):
    samples = read_data(write(tmp_path / "a.json", [record(ASK, SAY, *MORE)])).samples
    for suffix in (".jsonl", ".json", ".parquet"):
        write_samples(tmp_path / f"b{suffix}", samples)
        assert read_samples(tmp_path / f"b{suffix}") == samples
        assert read_data(tmp_path / f"b{suffix}").samples == samples
    write_samples(tmp_path / "c.jsonl", samples[:1])
    assert "history" not in (tmp_path / "c.jsonl").read_text()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "{}", "expected a list"),
        ("a.jsonl", "{}\n{", "line 2: not JSON"),
        ("a.json", '[{"x": 1e999}]', "no finite number"),
        ("a.json", "[" * 150 + "]" * 150, "levels deep"),
        ("a.parquet", "PAR1", "not a whole parquet file"),
        ("a.json", json.dumps([record(SAY), record(ASK, SAY, image=None), 3, 4]), "unknown_layout"),
    ],
)
def test_what_cannot_be_read_at_all_is_an_error(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_data(path)
    assert said in str(error.value) and is_a_sentence(str(error.value))


@pytest.fixture
def pictures(tiny_images):
    return [(tiny_images / f"image-{k}.png").read_bytes() for k in range(3)]


def hub_rows(pictures):
    """As data sets of the Hub have them: names that repeat, or none; a column besides."""
    names = ["a.png", "a.png", None, "a.png", "elsewhere.png"]
    shown = [pictures[0], pictures[1], pictures[2], pictures[0], None]
    return [
        {
            "image": {"bytes": content, "path": name},
            "conversations": [ASK, SAY],
            "weight": float("nan"),
            "raw": b"\xff",
        }
        for name, content in zip(names, shown, strict=True)
    ]


def test_pictures_in_a_table_are_served_from_it(tmp_path, pictures, tiny_images):
    path = write(tmp_path / "hub.parquet", hub_rows(pictures))
    data = read_data(path)
    names = [sample.image for sample in data.samples]
    assert names == ["a.png", "row-2-a.png", "row-3", "a.png", "elsewhere.png"]
    assert data.samples[0].meta == {"weight": None, "raw": None}
    images = data.pictures(None)
    for k in range(3):
        expected = data.pictures(tiny_images)[f"image-{k}.png"]  # from the folder, behind the data
        assert list(images[names[k]].getdata()) == list(expected.getdata())
    with pytest.raises(ImageError) as error:
        read_data(path).pictures(None)["elsewhere.png"]
    assert error.value.reason == "image_missing"
    (tmp_path / "bare.jsonl").write_text(json.dumps(READ["LLaVA"]))
    with pytest.raises(UserError, match="--images"):
        read_data(tmp_path / "bare.jsonl").pictures(None)


def test_pictures_in_lists_and_pictures_that_are_none(tmp_path, pictures):
    rows = [
        {"images": [{"bytes": content, "path": None} for content in some], "messages": talk}
        for some, talk in [
            (pictures[:1], READ["messages of text"]["messages"]),
            (pictures[:2], READ["messages of text"]["messages"]),
            ([b"nonsense"], READ["messages of text"]["messages"]),
        ]
    ]
    data = read_data(write(tmp_path / "a.parquet", rows))
    assert [sample.image for sample in data.samples] == ["row-1", "row-3"]
    assert [item.reason for item in data.left_out] == ["two_images"]
    images = data.pictures(None)
    assert images["row-1"].size == (24, 24)
    with pytest.raises(ImageError, match="row-3") as error:
        images["row-3"]
    assert error.value.reason == "image_unreadable"


def test_folders_of_datasets(tmp_path, tiny_images, monkeypatch):
    import datasets

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "conversations": [
                {"from": datasets.Value("string"), "value": datasets.Value("string")}
            ],
        }
    )
    rows = {"image": [str(tiny_images / f"image-{k}.png") for k in range(3)]}
    rows["conversations"] = [[ASK, SAY]] * 3
    made = datasets.Dataset.from_dict(rows, features=features)
    made.select([2, 0]).save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "splits")
    datasets.DatasetDict({"a": made, "b": made}).save_to_disk(tmp_path / "odd")
    (tmp_path / "files").mkdir()
    made.to_parquet(tmp_path / "files" / "train.parquet")
    one = read_data(tmp_path / "one")
    assert [sample.image for sample in one.samples] == ["image-2.png", "image-0.png"]
    assert one.pictures(None)["image-2.png"].size == (24, 24)
    for folder in ("splits", "files"):
        assert len(read_data(tmp_path / folder).samples) == 3
    with pytest.raises(UserError, match="has the splits a, b") as error:
        read_data(tmp_path / "odd")
    assert is_a_sentence(str(error.value))
    assert len(read_data(tmp_path / "odd" / "a").samples) == 3


@pytest.mark.parametrize("name", ["nobody/nothing-of-the-kind", "an-empty-folder"])
def test_a_data_set_that_cannot_be_had_is_a_sentence(tmp_path, monkeypatch, name):
    import datasets

    (tmp_path / "an-empty-folder").mkdir()
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    source = name if "/" in name else tmp_path / name
    with pytest.raises(UserError) as error:
        read_data(source)
    assert is_a_sentence(str(error.value)) and str(source) in str(error.value)


def test_a_split_of_a_folder_is_named_behind_it(tmp_path):
    for name in ("test", "validation"):
        write(tmp_path / f"{name}.jsonl", [READ["question and answer"] | {"id": name}])
    with pytest.raises(UserError, match="SPLIT"):
        read_data(tmp_path)
    assert [sample.id for sample in read_data(f"{tmp_path}:test").samples] == ["test"]
