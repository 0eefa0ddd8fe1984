"""What holds for eq. 1 and its other forms, and what does not although its name promises it."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from c3l.relevance import full_vocabulary_kl, i2c

FORMS = (
    "literal_sum",
    "literal_mean",
    "renormalised",
    "generalised",
    "bernoulli",
    "logratio",
    "logratio_mean",
)
DIVERGENCES = ("renormalised", "generalised", "bernoulli")
forms = st.sampled_from(FORMS)
probability = st.floats(1e-4, 0.999)


@st.composite
def answers(draw, rows=2):
    """Log-probabilities, float64 [rows, tokens], of which row 0 is visual and row 1 direct."""
    length = draw(st.integers(1, 8))
    row = st.lists(probability, min_size=length, max_size=length)
    return torch.tensor([draw(row) for _ in range(rows)], dtype=torch.float64).log()


def s(visual, direct, form="literal_sum", **kwargs):
    return i2c(visual.reshape(1, -1), direct.reshape(1, -1), form=form, **kwargs).item()


def p(*values):
    return torch.tensor(values, dtype=torch.float64).log()


def close(value, abs=1e-9, rel=1e-9):
    return pytest.approx(value, abs=abs, rel=rel)


@given(answers())
def test_literal_is_not_a_divergence_but_a_mixture_of_one(pair):
    """S = P·[KL(p^v/P ‖ p^d/D) + log(P/D)], and S >= −D/e."""
    visual, direct = pair
    total, other = visual.exp().sum(), direct.exp().sum()
    mixture = total * (s(visual, direct, "renormalised") + (total / other).log())
    assert s(visual, direct) == close(mixture.item())
    assert s(visual, direct) >= -other.item() / torch.e - 1e-9


def test_counter_examples_of_the_printed_form():
    assert s(p(0.2, 0.3), p(0.6, 0.5)) == pytest.approx(-0.373, abs=5e-4)  # negative
    assert s(p(0.4, 0.2), p(0.2, 0.8)) == close(0)  # zero, though the two differ
    assert s(p(0.9, 0.9), p(0.1, 0.1)) == pytest.approx(3.955, abs=5e-4)  # a uniform uplift
    # It falls as p rises where p < q/e: here the image makes the answer likelier, and S lower.
    assert s(p(0.1), p(0.9)) > s(p(0.2), p(0.9))


def test_renormalised_is_blind_to_a_uniform_uplift_and_to_one_token():
    assert s(p(0.9, 0.9), p(0.1, 0.1), "renormalised") == close(0)
    assert s(p(0.9), p(0.1), "renormalised") == close(0)


@given(answers(), st.sampled_from(DIVERGENCES))
def test_divergences_are_not_negative(pair, form):
    assert s(*pair, form) >= -1e-9


@given(answers(), st.sampled_from(("generalised", "bernoulli")))
def test_generalised_and_bernoulli_are_zero_only_where_equal(pair, form):
    visual, direct = pair
    assume((visual.exp() - direct.exp()).abs().max() > 0.01)
    assert s(visual, direct, form) > 1e-6


@given(answers(), forms)
def test_zero_where_equal(pair, form):
    assert s(pair[0], pair[0], form) == close(0)


@given(answers(), st.floats(0.01, 1))
def test_scaling_both_scales_the_printed_form_and_not_the_renormalised(pair, c):
    visual, direct = pair
    scaled = (visual + p(c), direct + p(c))
    assert s(*scaled) == close(c * s(visual, direct))
    assert s(*scaled, "renormalised") == close(s(visual, direct, "renormalised"))


@given(answers(), forms, st.integers(2, 4))
def test_an_answer_said_again_adds_up_in_sums_alone(pair, form, times):
    visual, direct = pair
    grows = {"literal_sum", "generalised", "bernoulli", "logratio"}
    expected = s(visual, direct, form) * (times if form in grows else 1)
    assert s(visual.repeat(times), direct.repeat(times), form) == close(expected)


@given(answers(), forms, st.randoms())
def test_the_order_of_the_tokens_does_not_matter(pair, form, random):
    places = list(range(pair.shape[1]))
    random.shuffle(places)
    assert s(*pair[:, places], form) == close(s(*pair, form))


@given(answers(), forms, st.integers(1, 5), st.floats(-50, 0))
def test_padding_does_not_matter(pair, form, more, junk):
    padding = torch.full((2, more), junk, dtype=torch.float64)
    mask = torch.tensor([[True] * pair.shape[1] + [False] * more])
    padded = torch.cat([pair, padding], dim=1)
    assert s(*padded, form, mask=mask) == close(s(*pair, form))


@given(answers(rows=4), st.sampled_from([f for f in FORMS if "logratio" not in f]), st.floats(0, 1))
def test_jointly_convex(rows, form, weight):
    """In (p, q); the log-ratio is not: it is convex in q and concave in p."""
    p1, q1, p2, q2 = rows
    p_mixed = torch.log(weight * p1.exp() + (1 - weight) * p2.exp())
    q_mixed = torch.log(weight * q1.exp() + (1 - weight) * q2.exp())
    if form == "renormalised":  # a divergence of the shares: convex in them
        p1, q1, p2, q2 = (x - x.logsumexp(0) for x in rows)
        p_mixed = torch.log(weight * p1.exp() + (1 - weight) * p2.exp())
        q_mixed = torch.log(weight * q1.exp() + (1 - weight) * q2.exp())
    chord = weight * s(p1, q1, form) + (1 - weight) * s(p2, q2, form)
    assert s(p_mixed, q_mixed, form) <= chord + 1e-9


def test_forms_that_are_not_jointly_convex():
    """The middle of two pairs scores above the mean of their scores."""
    ends = (p(0.01), p(0.5)), (p(0.99), p(0.5))
    middle = s(p(0.5), p(0.5), "logratio")  # concave in p
    assert middle > sum(s(*end, "logratio") for end in ends) / 2 + 1
    # Convex in the shares, not in the probabilities: both ends are proportional, the middle is not.
    ends = (p(0.8, 0.2), p(0.08, 0.02)), (p(0.02, 0.08), p(0.2, 0.8))
    assert [s(*end, "renormalised") for end in ends] == [close(0), close(0)]
    assert s(p(0.41, 0.14), p(0.14, 0.41), "renormalised") > 0.5


@given(answers(), st.floats(0.01, 1))
def test_renormalised_is_zero_where_proportional_and_only_there(pair, c):
    visual, direct = pair
    assert s(visual, visual + p(c), "renormalised") == close(0)
    gaps = visual - direct
    assume(gaps.max() - gaps.min() > 0.1)
    assert s(visual, direct, "renormalised") > 1e-6


@st.composite
def distributions(draw, rows=2, words=5):
    """Log-probabilities of a whole vocabulary, float64 [rows, tokens, words]."""
    length = draw(st.integers(1, 4))
    row = st.lists(st.floats(-8, 8), min_size=length * words, max_size=length * words)
    logits = torch.tensor([draw(row) for _ in range(rows)], dtype=torch.float64)
    return logits.reshape(rows, length, words).log_softmax(-1)


def full(visual, direct, form="full_vocab_sum"):
    """The full-vocabulary form of an answer whose tokens are each position's first word."""
    return s(visual[:, 0], direct[:, 0], form, kl=full_vocabulary_kl(visual, direct).reshape(1, -1))


@given(distributions())
def test_the_full_vocabulary_is_a_divergence(pair):
    visual, direct = pair
    gap = (visual.exp() - direct.exp()).abs().sum(-1)
    assert full(visual, visual) == 0
    assert full(visual, direct) >= 0.5 * gap.square().sum().item() - 1e-9  # Pinsker
    assert full(visual.flip(0), direct.flip(0)) == close(full(visual, direct))


@given(distributions(), st.integers(2, 4))
def test_the_full_vocabulary_adds_up_over_tokens(pair, times):
    many = pair.repeat(1, times, 1)
    assert full(*many) == close(times * full(*pair))
    assert full(*many, "full_vocab_mean") == close(full(*pair, "full_vocab_mean"))


@given(distributions(rows=4), st.floats(0, 1))
def test_the_full_vocabulary_is_jointly_convex(rows, weight):
    p1, q1, p2, q2 = rows
    mixed = [torch.log(weight * a.exp() + (1 - weight) * b.exp()) for a, b in ((p1, p2), (q1, q2))]
    assert full(*mixed) <= weight * full(p1, q1) + (1 - weight) * full(p2, q2) + 1e-9


def test_the_full_vocabulary_does_not_see_whether_the_answer_gains():
    """Mirrored: the image makes the answer likelier, or the other word; the divergence is one."""
    likelier, other = p(0.9, 0.1).reshape(1, 2), p(0.1, 0.9).reshape(1, 2)
    even = p(0.5, 0.5).reshape(1, 2)
    assert full(likelier, even) == close(full(other, even))
    assert s(p(0.9), p(0.5)) > 0 > s(p(0.1), p(0.5))


@given(answers(), forms)
def test_gradients_equal_finite_differences(pair, form):
    assume((pair[0] - pair[1]).abs().min() > 1e-3)  # at equality a form may have a kink
    inputs = [x.reshape(1, -1).clone().requires_grad_() for x in pair]
    assert torch.autograd.gradcheck(lambda *x: i2c(*x, form=form), inputs, atol=1e-5)


@given(answers())
def test_slopes_of_the_printed_form(pair):
    """dS/dq_t = −p_t/q_t: always falling; dS/dp_t = 1 + log(p_t/q_t): falling where p < q/e."""
    visual, direct = pair
    assume((visual - direct).abs().min() > 1e-6)
    probabilities = [x.exp().requires_grad_() for x in (visual, direct)]
    i2c(*(x.log().reshape(1, -1) for x in probabilities)).sum().backward()
    torch.testing.assert_close(probabilities[0].grad, 1 + visual - direct)
    torch.testing.assert_close(probabilities[1].grad, -(visual - direct).exp())


@given(answers(), forms)
def test_float32_is_enough(pair, form):
    visual, direct = pair.float().unsqueeze(1)
    exact = s(*pair.float().double(), form)
    assert i2c(visual, direct, form=form).item() == close(exact, abs=1e-3, rel=1e-3)


@given(st.lists(st.tuples(*[st.floats(-1e4, 0) | st.just(-torch.inf)] * 2), min_size=1), forms)
def test_never_undefined(rows, form):
    """Whatever underflows: a score may be infinite, but it is a number."""
    visual, direct = torch.tensor(rows, dtype=torch.float32).T
    if form.startswith("logratio"):  # impossible with one and with the other: ∞ − ∞
        gaps = visual - direct
        assume(not ((gaps == torch.inf).any() and (gaps == -torch.inf).any()))
    assert not i2c(visual[None], direct[None], form=form).isnan().any()
