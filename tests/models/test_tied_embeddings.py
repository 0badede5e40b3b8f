"""The gradient of embeddings that are the output head."""

import copy

import pytest
import torch

from closer_look.models.tied_embeddings import tied_embeddings


@pytest.fixture
def fresh(language_model):
    return copy.deepcopy(language_model.model)


def test_embeddings_that_are_the_output_head_have_the_same_gradient_by_their_tokens_alone(fresh):
    model = fresh
    embeddings = model.get_input_embeddings()
    assert embeddings.weight is model.get_output_embeddings().weight

    def gradient():
        model.zero_grad()
        logits = model(torch.tensor([[5, 6, 5, 7], [5, 8, 9, 9]])).logits
        (logits.square().sum() * 1e-3).backward()
        return embeddings.weight.grad

    expected = gradient()
    with tied_embeddings(model):
        assert embeddings.sparse
        found = gradient()
    assert not embeddings.sparse
    assert not found.is_sparse
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected)


def test_embeddings_that_are_no_output_head_are_left_alone(fresh):
    model = fresh
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with tied_embeddings(model):
        assert not model.get_input_embeddings().sparse
