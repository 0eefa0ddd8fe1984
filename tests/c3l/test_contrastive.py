"""Eq. 2 and 3: the projection, padding, groups of unequal size, zero vectors, no negatives."""

import pytest
import torch

from c3l.contrastive import Projection, contrastive_loss


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).relu()


def test_projection_is_affine_relu_average():
    projection = Projection(2)
    with torch.no_grad():
        projection.map.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        projection.map.bias.copy_(torch.tensor([0.0, 1.0]))
    states = torch.tensor([[[1.0, 3.0], [3.0, 0.5], [100.0, -100.0]]])
    h = projection(states, torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(h, torch.tensor([[2.0, 0.25]]))


def test_projection_without_parameters():
    projection = Projection(2, affine=False)
    assert not list(projection.parameters())
    h = projection(torch.tensor([[[1.0, -3.0], [3.0, 1.0]]]), torch.ones(1, 2))
    torch.testing.assert_close(h, torch.tensor([[2.0, 0.5]]))


def test_projection_ignores_padding():
    states, projection = torch.randn(2, 5, 4), Projection(4)
    padded = torch.cat([states, torch.full((2, 3, 4), 7.0)], dim=1)
    mask = torch.ones(2, 5, dtype=torch.bool)
    padded_mask = torch.cat([mask, torch.zeros(2, 3, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(projection(states, mask), projection(padded, padded_mask))


def test_a_text_without_a_token_has_no_vector():
    with pytest.raises(ValueError, match="without a single token"):
        Projection(4)(torch.randn(2, 3, 4), torch.tensor([[1, 1, 1], [0, 0, 0]]))


@pytest.mark.parametrize("form", ["literal", "infonce"])
def test_groups_of_unequal_size_equal_each_alone(form):
    anchor, positive, negatives = vectors(3, 8), vectors(3, 8, seed=1), vectors(3, 5, 8, seed=2)
    counts = [1, 5, 3]
    mask = torch.arange(5) < torch.tensor(counts)[:, None]
    together = contrastive_loss(anchor, positive, negatives, form=form, mask=mask)
    for i, k in enumerate(counts):
        alone = contrastive_loss(
            anchor[i : i + 1], positive[i : i + 1], negatives[i : i + 1, :k], form=form
        )
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("k", [0, 2])
def test_without_negatives(k):
    """Undefined as printed, zero in InfoNCE: whether none was given or all are masked."""
    given = (vectors(1, 4), vectors(1, 4, seed=1).requires_grad_(), vectors(1, k, 4, seed=2))
    mask = torch.zeros(1, k, dtype=torch.bool)
    with pytest.raises(ValueError, match="without negatives"):
        contrastive_loss(*given, mask=mask)
    loss = contrastive_loss(*given, mask=mask, form="infonce")
    loss.sum().backward()
    assert loss.item() == 0
    assert not given[1].grad.any()


@pytest.mark.parametrize("form", ["literal", "infonce"])
def test_a_zero_vector_has_a_finite_loss_and_gradient(form):
    for place in range(3):
        given = [vectors(1, 4, seed=1), vectors(1, 4, seed=2), vectors(1, 3, 4, seed=3)]
        given[place] = torch.zeros_like(given[place])
        for tensor in given:
            tensor.requires_grad_()
        loss = contrastive_loss(*given, form=form)
        loss.sum().backward()
        assert loss.isfinite().all()
        assert all(tensor.grad.isfinite().all() for tensor in given)


def test_an_unknown_form_is_an_error():
    with pytest.raises(ValueError, match="Unknown"):
        contrastive_loss(vectors(1, 4), vectors(1, 4), vectors(1, 2, 4), form="triplet")
