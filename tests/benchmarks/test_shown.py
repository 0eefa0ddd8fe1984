"""What a question shows, read without lmms-eval: the same questions that are scored."""

import io

import pytest
from PIL import Image

from benchmarks import shown
from tests.benchmarks import data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    seed = data.seedbench(folder / "seedbench", n=3)
    return {
        "seedbench": seed,
        "seedbench_ppl": seed,
        "pope": data.pope(folder / "pope", pairs=1),
        "mmbench": data.mmbench(folder / "mmbench"),
        "llava_w": data.llava_w(folder / "llava_w"),
    }


@pytest.mark.parametrize(
    ("task", "category", "question_id", "question", "answer", "options"),
    [
        (
            "seedbench",
            "Instance Identity",
            "1001",
            "Which option belongs to number 1?",
            "B",
            ["option 0 of 1", "option 1 of 1", "option 2 of 1", "option 3 of 1"],
        ),
        ("pope", "popular", "3", "Is there thing 0 of the no popular kind?", "no", []),
        ("mmbench", "attribute", "2", "What colour is thing 2, turn 0?", "A", ["red", "blue"]),
        ("llava_w", "detail", "1", "Tell me about it (detail).", "It is a red ball.", []),
    ],
)
def test_a_question_is_found_by_what_its_scored_row_says(
    folders, task, category, question_id, question, answer, options
):
    place = shown.key(task, category, question_id)
    found = shown.read(task, folders[task], {place})
    assert list(found) == [place]
    assert (found[place].question, found[place].answer) == (question, answer)
    assert found[place].options == dict(zip("ABCD", options, strict=False))
    with Image.open(io.BytesIO(found[place].picture)) as picture:
        assert picture.size == (24, 24)


def test_seed_by_likelihood_has_the_same_questions(folders):
    wanted = {("", "1000"), ("", "1002"), ("", "nobody's")}
    letters, ppl = (shown.read(t, folders[t], wanted) for t in ("seedbench", "seedbench_ppl"))
    assert letters == ppl
    assert letters.keys() == {("", "1000"), ("", "1002")}


def test_ids_that_repeat_between_popes_categories_are_kept_apart():
    assert shown.key("pope", "popular", "1") != shown.key("pope", "random", "1")
    assert shown.key("mmbench", "a", "1") == shown.key("mmbench", "b", "1")
