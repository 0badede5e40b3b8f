"""Reference scores: what each method needs of the frozen model, and no more."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from closer_look.datasets.reference_scores_dataset import ReferenceScoresDataset
from closer_look.errors import InputError
from closer_look.inference.scoring import score
from closer_look.models.language_model import LanguageModel
from closer_look.models.packing import answer_logits, pack
from closer_look.models.tokens import encode
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.training import reference
from closer_look.training.reference import reference_scores
from closer_look.training.reference_scores import ReferenceCache
from closer_look.training.unlearning import unlearn


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 2), ("retain", 0, 3))


@pytest.fixture
def plan():
    """Two epochs; the second repeats a refusal and a retain row."""
    return pd.DataFrame(
        {
            "epoch": [1, 1, 2, 2],
            "forget_row_id": ["forget-1-1", "forget-1-2", "forget-1-2", "forget-1-1"],
            "retain_row_id": ["retain-0-1", "retain-0-2", "retain-0-1", "retain-0-2"],
            "refusal": ["No.", "I cannot say.", "No.", "No."],
        }
    )


@pytest.fixture
def scores_of(language_model, plan, questions):
    def scores_of(forget, retain="gradient_descent", **own):
        method = MethodParameters(
            label="X", forget={"loss": forget}, retain=retain and {"loss": retain}, **own
        )
        return reference_scores(language_model, plan, questions, method, batch_size=3)

    return scores_of


NEED_NOTHING = [
    *("gradient_ascent", "maximum_entropy", "idk", "simnpo", "wga", "satimp", "flat_logits", "rmu"),
    "flat",
]


@pytest.mark.parametrize("forget", NEED_NOTHING)
@pytest.mark.parametrize("retain", ["gradient_descent", "answer_preservation", None])
def test_methods_without_a_reference_need_no_forward_pass(forget, retain, scores_of, monkeypatch):
    monkeypatch.setattr(reference, "computation_fingerprint", None)
    scores = scores_of(forget, retain)
    assert scores.nll.empty
    assert scores.hidden_states == scores.output_head == scores.activations == {}


def test_npo_needs_one_number_a_forget_row(scores_of, language_model, questions):
    nll = scores_of("npo").nll.sort_values("row_id")
    assert list(nll["row_id"]) == ["forget-1-1", "forget-1-2"]
    rows = questions.iloc[:2]
    expected = score(language_model, list(rows["question"]), list(rows["answer"]), 2)["nll"]
    np.testing.assert_allclose(nll["nll"], expected, rtol=1e-5)


def test_dpo_needs_each_refusal_that_stands_beside_a_row_once(scores_of):
    nll = scores_of("dpo").nll
    assert sorted(nll["row_id"] + ": " + nll["text"]) == [
        "forget-1-1: Answer 1",
        "forget-1-1: No.",
        "forget-1-2: Answer 2",
        "forget-1-2: I cannot say.",
        "forget-1-2: No.",
    ]


def test_altpo_needs_each_alternate_that_stands_beside_a_row_once(language_model, plan, questions):
    with_them = plan.assign(alternate=["Ada", "Bo", "Cy", "Ada"])
    method = MethodParameters(label="X", forget={"loss": "altpo"}, alternates={})
    nll = reference_scores(language_model, with_them, questions, method, batch_size=3).nll
    assert sorted(nll["row_id"] + ": " + nll["text"]) == [
        "forget-1-1: Ada",
        "forget-1-1: Answer 1",
        "forget-1-2: Answer 2",
        "forget-1-2: Bo",
        "forget-1-2: Cy",
    ]
    expected = score(language_model, ["Question 2 of forget 1?"], ["Cy"], 1)["nll"].item()
    assert nll.set_index("text").loc["Cy", "nll"] == pytest.approx(expected, rel=1e-5)


def test_undial_keeps_hidden_states_of_the_forget_rows_from_which_the_logits_follow(
    scores_of, language_model, questions
):
    scores = scores_of("undial", None)
    assert set(scores.hidden_states) == {"forget-1-1", "forget-1-2"}
    row = questions.set_index("row_id").loc["forget-1-2"]
    tokens = encode(language_model.tokenizer, [row["question"]], [row["answer"]])
    with torch.no_grad():
        expected = answer_logits(language_model.model, pack(tokens))
    logits = scores.hidden_states["forget-1-2"] @ scores.output_head["lm_head.weight"].T
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-4)


def test_undial_and_kl_keep_those_of_both_sides(scores_of):
    scores = scores_of("undial", "kl")
    assert set(scores.hidden_states) == {"forget-1-1", "forget-1-2", "retain-0-1", "retain-0-2"}


@pytest.mark.parametrize("layer", [0, 1])
def test_rmu_keeps_a_layer_s_states_at_the_answers_of_the_planned_retain_rows(
    make_family, plan, questions, layer
):
    model = make_family("llama", num_hidden_layers=3)
    rmu = {"label": "X", "forget": {"loss": "rmu"}, "retain": {"loss": "rmu"}}
    method = MethodParameters(**rmu, activations={"layer": layer})
    scores = reference_scores(model, plan, questions, method, batch_size=1)
    assert (len(scores.nll), scores.hidden_states, scores.output_head) == (0, {}, {})
    assert set(scores.activations) == {"retain-0-1", "retain-0-2"}
    row = questions.set_index("row_id").loc["retain-0-2"]
    (tokens,) = encode(model.tokenizer, [row["question"]], [row["answer"]])
    ids = torch.tensor([tokens.prompt + tokens.answer])
    with torch.no_grad():
        expected = model.model(ids, output_hidden_states=True).hidden_states[layer + 1][0]
    found = scores.activations["retain-0-2"]
    torch.testing.assert_close(found, expected[len(tokens.prompt) :], rtol=1e-4, atol=1e-4)


def test_states_of_one_layer_are_not_taken_for_those_of_another(
    make_family, plan, questions, tmp_path
):
    model, cache = make_family("llama", num_hidden_layers=3), ReferenceCache(tmp_path)
    rmu = {"label": "X", "forget": {"loss": "rmu"}, "retain": {"loss": "rmu"}}
    kl = {"label": "X", "forget": {"loss": "rmu"}, "retain": {"loss": "kl"}}

    def states(values, **own):
        method = MethodParameters(**values, **own)
        found = reference_scores(model, plan, questions, method, 2, cache)
        return (found.hidden_states | found.activations)["retain-0-1"]

    first = [states(rmu, activations={"layer": n}) for n in (0, 1, None)] + [states(kl)]
    assert torch.equal(first[0], first[2])  # at 7/32 of three layers is the first
    assert len({one.numpy().tobytes() for one in first}) == 3
    assert len(list(tmp_path.iterdir())) == 3
    again = [states(rmu, activations={"layer": n}) for n in (0, 1, None)] + [states(kl)]
    assert all(map(torch.equal, first, again))


def test_the_reference_itself_has_lost_nothing_of_a_layer(make_family, plan, questions):
    model = make_family("llama", num_hidden_layers=3)
    rmu = {"label": "X", "forget": {"loss": "rmu"}, "retain": {"loss": "rmu"}}
    method = MethodParameters(**rmu)
    scores = reference_scores(model, plan, questions, method, batch_size=3)
    parameters = UnlearningParameters(
        learning_rate=1e-2, epochs=2, batch_size=2, warmup_epochs=0, seed=1
    )
    log = unlearn(model, plan, questions, scores, method, parameters)[1]
    assert log["retain_loss"].iloc[0] == pytest.approx(0, abs=1e-6)
    assert log["retain_loss"].iloc[1] > 1e-4
    assert log["forget_loss"].iloc[1] < log["forget_loss"].iloc[0]


def test_kl_keeps_hidden_states_of_the_planned_retain_rows_from_which_the_logits_follow(
    scores_of, language_model, questions
):
    scores = scores_of("gradient_ascent", "kl")
    assert set(scores.hidden_states) == {"retain-0-1", "retain-0-2"}
    row = questions.set_index("row_id").loc["retain-0-2"]
    tokens = encode(language_model.tokenizer, [row["question"]], [row["answer"]])
    with torch.no_grad():
        expected = answer_logits(language_model.model, pack(tokens))
    logits = scores.hidden_states["retain-0-2"] @ scores.output_head["lm_head.weight"].T
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-4)


def test_kl_compares_with_the_reference_s_head_and_not_that_of_the_model_in_training(
    make_family, plan, questions
):
    reference_model = make_family("llama")
    method = MethodParameters(label="X", forget={"loss": "gradient_ascent"}, retain={"loss": "kl"})
    scores = reference_scores(reference_model, plan, questions, method, batch_size=3)
    parameters = UnlearningParameters(
        learning_rate=1e-4, epochs=2, batch_size=2, warmup_epochs=0, seed=1
    )
    same = LanguageModel(copy.deepcopy(reference_model.model), reference_model.tokenizer)
    another = LanguageModel(copy.deepcopy(reference_model.model), reference_model.tokenizer)
    torch.nn.init.normal_(another.model.lm_head.weight, std=0.3)  # and its layers are the same
    first = [
        unlearn(model, plan, questions, scores, method, parameters)[1]["retain_loss"][0]
        for model in (same, another)
    ]
    assert first[0] == pytest.approx(0, abs=1e-5)
    assert first[1] > 0.1


@pytest.mark.usefixtures("logits_of_the_text")
def test_kl_refuses_a_model_whose_logits_do_not_follow_from_its_states(scores_of):
    with pytest.raises(InputError, match="the logits of LlamaForCausalLM do not follow from its"):
        scores_of("gradient_ascent", "kl")


def test_scores_come_back_from_disk_as_they_went(scores_of, tmp_path):
    saved = scores_of("npo", "kl")
    dataset = ReferenceScoresDataset(filepath=(tmp_path / "scores").as_posix())
    assert not dataset.exists()
    dataset.save(saved)
    assert dataset.exists()
    loaded = dataset.load()
    pd.testing.assert_frame_equal(loaded.nll, saved.nll, check_dtype=False)
    assert loaded.output_head.keys() == saved.output_head.keys() == {"lm_head.weight"}
    assert torch.equal(*(one.output_head["lm_head.weight"] for one in (loaded, saved)))
    assert loaded.hidden_states.keys() == saved.hidden_states.keys()
    for row_id, states in saved.hidden_states.items():
        assert torch.equal(loaded.hidden_states[row_id], states)


def test_scores_of_a_method_without_a_reference_come_back_empty(scores_of, tmp_path):
    dataset = ReferenceScoresDataset(filepath=(tmp_path / "scores").as_posix())
    dataset.save(scores_of("idk"))
    loaded = dataset.load()
    assert loaded.nll.empty
    assert loaded.hidden_states == {}
    assert loaded.output_head == {}
