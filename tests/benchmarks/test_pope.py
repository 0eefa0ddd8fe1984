import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmms_eval.tasks.pope import utils as official

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


@given(st.lists(st.tuples(st.sampled_from(["yes", "no"]), st.sampled_from(["yes", "no", "hm"]))))
def test_f1_equals_lmms_evals(pairs):
    answers = np.array([a for a, _ in pairs], dtype=object)
    readings = np.array([pope.lmms_eval_reading(r) for _, r in pairs], dtype=object)
    results = [{"prediction": r, "ground_truth": a} for a, r in pairs]
    assert pope.f1(answers, readings) == pytest.approx(official.pope_aggregate_f1_score(results))
