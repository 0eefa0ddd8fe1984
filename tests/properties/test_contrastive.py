"""What holds for eq. 3 as printed, for InfoNCE, and for both."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from c3l.contrastive import contrastive_loss

TAU = 0.1
forms = st.sampled_from(["literal", "infonce"])
# Off zero: the gradient of a cosine has no bound near the zero vector.
coordinate = st.floats(0, 10).map(lambda x: x + 0.1)


def similarities_to_vectors(near, far):
    """Vectors in the plane whose cosines with the anchor are these: what eq. 3 depends on."""

    def at(cosine):
        return [cosine, math.sqrt(1 - cosine**2)]

    anchor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    positive = torch.tensor([at(near)], dtype=torch.float64)
    negatives = torch.tensor([[at(x) for x in far]], dtype=torch.float64)
    return anchor, positive, negatives


def loss_at(near, far, form="literal", temperature=TAU):
    vectors = similarities_to_vectors(near, far)
    return contrastive_loss(*vectors, temperature=temperature, form=form).item()


@st.composite
def latents(draw, d=4):
    """Anchor, positive [1, d] and negatives [1, k, d], non-negative as after ReLU."""
    k = draw(st.integers(1, 6))
    rows = draw(
        st.lists(st.lists(coordinate, min_size=d, max_size=d), min_size=k + 2, max_size=k + 2)
    )
    h = torch.tensor(rows, dtype=torch.float64)
    return h[0:1], h[1:2], h[None, 2:]


cosine = st.floats(0, 1)
cosines = st.lists(cosine, min_size=1, max_size=6)


def test_the_printed_form_is_not_bounded_by_zero():
    assert loss_at(0.9, [0.1]) == pytest.approx(-8)
    assert loss_at(0.9, [0.1], "infonce") == pytest.approx(math.log1p(math.exp(-8)))


@given(cosine, st.integers(1, 9))
def test_all_similarities_equal(x, k):
    assert loss_at(x, [x] * k) == pytest.approx(math.log(k), abs=1e-9)
    assert loss_at(x, [x] * k, "infonce") == pytest.approx(math.log(1 + k), abs=1e-9)


@given(latents())
def test_infonce_is_softplus_of_the_printed_form(h):
    literal = contrastive_loss(*h, temperature=TAU)
    infonce = contrastive_loss(*h, temperature=TAU, form="infonce")
    torch.testing.assert_close(infonce, F.softplus(literal), atol=1e-9, rtol=1e-9)
    assert (infonce >= 0).all()


@given(latents())
def test_bounds_after_relu(h):
    k = h[2].shape[1]
    literal = contrastive_loss(*h, temperature=TAU).item()
    infonce = contrastive_loss(*h, temperature=TAU, form="infonce").item()
    assert math.log(k) - 1 / TAU - 1e-9 <= literal <= math.log(k) + 1 / TAU + 1e-9
    assert math.log1p(k * math.exp(-1 / TAU)) - 1e-9 <= infonce
    assert infonce <= math.log1p(k * math.exp(1 / TAU)) + 1e-9


@given(st.floats(0.1, 0.8), st.lists(st.floats(0.1, 0.8), min_size=1, max_size=5), forms)
def test_slopes_in_the_similarities(near, far, form):
    """As printed −1/τ for the positive whatever it is; InfoNCE saturates. They sum to zero."""
    step = 1e-6
    values = [near, *far]
    logits = torch.tensor(values, dtype=torch.float64) / TAU
    shares = logits.softmax(0)
    expected = (
        torch.cat([torch.tensor([-1.0]), logits[1:].softmax(0)])
        if form == "literal"
        else torch.cat([shares[:1] - 1, shares[1:]])
    ) / TAU
    slopes = []
    for i in range(len(values)):
        up, down = list(values), list(values)
        up[i], down[i] = values[i] + step, values[i] - step
        rise = loss_at(up[0], up[1:], form) - loss_at(down[0], down[1:], form)
        slopes.append(rise / (2 * step))
    assert slopes == pytest.approx(expected.tolist(), abs=1e-3)
    assert sum(slopes) == pytest.approx(0, abs=1e-3)


@given(st.floats(0, 0.5), st.lists(st.floats(0, 0.5), min_size=1), st.floats(0, 0.5), forms)
def test_a_constant_added_to_all_similarities_changes_nothing(near, far, constant, form):
    shifted = loss_at(near + constant, [x + constant for x in far], form)
    assert shifted == pytest.approx(loss_at(near, far, form), abs=1e-6)


@given(latents(), forms, st.randoms())
def test_the_order_of_the_negatives_does_not_matter(h, form, random):
    anchor, positive, negatives = h
    places = list(range(negatives.shape[1]))
    random.shuffle(places)
    torch.testing.assert_close(
        contrastive_loss(anchor, positive, negatives[:, places], form=form),
        contrastive_loss(*h, form=form),
    )


@given(latents(), forms, st.lists(st.floats(0.01, 100), min_size=3, max_size=3))
def test_positive_scaling_of_any_vector_changes_nothing(h, form, scales):
    scaled = [x * scale for x, scale in zip(h, scales, strict=True)]
    torch.testing.assert_close(
        contrastive_loss(*scaled, form=form), contrastive_loss(*h, form=form)
    )


@given(cosine, cosines, cosine, forms)
def test_one_more_negative_raises_the_loss(near, far, another, form):
    more, before = loss_at(near, [*far, another], form), loss_at(near, far, form)
    assert more >= before
    if abs(near - another) < 0.5 and abs(max(far) - another) < 0.5:  # far off it adds e^−10 or less
        assert more > before


@given(latents(), forms)
def test_gradients_equal_finite_differences(h, form):
    inputs = [x.clone().requires_grad_() for x in h]
    assert torch.autograd.gradcheck(
        lambda *x: contrastive_loss(*x, temperature=1.0, form=form), inputs, atol=1e-4
    )
