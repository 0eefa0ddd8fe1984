import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchmarks import pope


@pytest.mark.parametrize(
    ("response", "lmms_eval", "llava"),
    [
        ("yes", "yes", "yes"),
        (" Yes\n", "yes", "yes"),
        ("No", "no", "no"),
        ("Yes, there is.", None, "yes"),
        ("No, there is none.", None, "no"),
        ("There is not.", None, "no"),
        ("Yes. It is not far.", None, "yes"),
        ("Nothing", None, "yes"),
        ("", None, "yes"),
    ],
)
def test_both_rules_of_reading(response, lmms_eval, llava):
    assert pope.lmms_eval_reading(response) == lmms_eval
    assert pope.llava_reading(response) == llava


ANSWERS = st.sampled_from(["yes", "no"])


@given(st.lists(st.tuples(ANSWERS, st.integers(-3, 3)), min_size=1, max_size=40))
def test_the_area_is_the_share_of_pairs_in_the_right_order(rows):
    answers, scores = map(np.array, zip(*rows, strict=True))
    area = pope.area_under_roc(answers, scores)
    if len(set(answers)) < 2:
        assert math.isnan(area)
    else:
        assert area == pytest.approx(roc_auc_score(answers == "yes", scores))
        # Only the order counts: a model that says "yes" more readily has the same area.
        assert area == pope.area_under_roc(answers, 2.0 * scores + 7)


def test_each_category_is_ranked_by_itself():
    """Over all questions together the area would be 7/8."""
    records = [
        {"category": category, "answer": answer, "score": score + level}
        for level, category in enumerate(pope.CATEGORIES)
        for answer, score in (("yes", 0.6), ("no", 0.4))
    ]
    assert pope.mean_area(records) == 1
    assert math.isnan(pope.mean_area(records[:4]))
