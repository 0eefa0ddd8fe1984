"""Two rows' samples beside each other: what is paired, and what is pooled over seeds."""

import pandas as pd

from repro.analysis.differences import discordant_questions


def answers(right: str, category: str = "a") -> pd.DataFrame:
    """One row a question, numbered from 1: right (x) or wrong (-)."""
    numbers = [str(k + 1) for k in range(len(right))]
    correct = [float(one == "x") for one in right]
    return pd.DataFrame({"category": category, "question_id": numbers, "correct": correct})


def test_with_one_model_a_row_pairs_are_questions_answered_differently():
    assert discordant_questions([[answers("xx-x-")]], [[answers("x---x")]]) == (2, 1)


def test_a_question_counts_once_however_many_models_answer_it():
    ours = [[answers("xx-"), answers("xx-")], [answers("xx-"), answers("-x-")]]
    others = [[answers("-xx"), answers("-xx")], [answers("-xx"), answers("--x")]]
    assert discordant_questions(ours, others) == (2, 1)


def test_questions_are_the_same_by_category_and_number_in_whatever_order():
    ours = pd.concat([answers("x-", "a"), answers("-x", "b")])
    others = pd.concat([answers("x-", "b"), answers("x-", "a")])
    assert discordant_questions([[ours]], [[others.sample(frac=1, random_state=0)]]) == (1, 1)


def test_answers_that_are_not_right_or_wrong_have_no_pairs():
    judged = answers("x-").rename(columns={"correct": "score"})
    assert discordant_questions([[judged]], [[judged]]) is None
