"""Questions for the report, read without lmms-eval: the same that are scored."""

import io

import pytest
from PIL import Image

from benchmarks import BENCHMARKS
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
    benchmark = BENCHMARKS[task]
    key = benchmark.question_key(category, question_id)
    questions = benchmark.questions(folders[task], {key})
    assert list(questions) == [key]
    assert (questions[key].question, questions[key].answer) == (question, answer)
    assert questions[key].options == dict(zip("ABCD", options, strict=False))
    with Image.open(io.BytesIO(questions[key].image)) as picture:
        assert picture.size == (24, 24)


def test_seed_by_likelihood_has_the_same_questions(folders):
    wanted = {("", "1000"), ("", "1002"), ("", "nobody's")}
    letters, ppl = (
        BENCHMARKS[t].questions(folders[t], wanted) for t in ("seedbench", "seedbench_ppl")
    )
    assert letters == ppl
    assert letters.keys() == {("", "1000"), ("", "1002")}


def test_ids_that_repeat_between_popes_categories_are_kept_apart():
    pope, mmbench = BENCHMARKS["pope"], BENCHMARKS["mmbench"]
    assert pope.question_key("popular", "1") != pope.question_key("random", "1")
    assert mmbench.question_key("a", "1") == mmbench.question_key("b", "1")
