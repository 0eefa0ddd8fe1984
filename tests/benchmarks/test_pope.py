import pytest

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
