"""Scores: those of a plain forward pass, one row at a time, whatever the batch."""

import numpy as np
import pandas as pd
import pytest
import torch

from closer_look.data.questions import answers_to_score, given_answers
from closer_look.inference.scoring import _moments, greedy_prefixes, score
from closer_look.metrics import membership_scores, membership_summary
from closer_look.models.packing import answer_logits, pack, packed_attention
from closer_look.models.prompts import set_prompt
from closer_look.models.tokens import encode

QUESTIONS = ["Who?", "Where was she born?", "Q", "What does she do on rainy afternoons, and why?"]
ANSWERS = ["Ilse Marwood, of course", "Ö", "中文 and some more words to make it long", "Nothing."]


@pytest.fixture(scope="module")
def plain(language_model):
    """Log-probabilities and first choices of each row in a forward pass of its own."""
    model = language_model.model.eval()
    rows = []
    for row in encode(language_model.tokenizer, QUESTIONS, ANSWERS):
        with torch.inference_mode():
            logits = model(torch.tensor([row.prompt + row.answer])).logits[0]
        predicting = logits[len(row.prompt) - 1 : -1].double().log_softmax(-1)
        values = [predicting[position, token].item() for position, token in enumerate(row.answer)]
        hits = (predicting.argmax(-1) == torch.tensor(row.answer)).tolist()
        means = (predicting.exp() * predicting).sum(-1)
        variances = (predicting.exp() * predicting**2).sum(-1) - means**2
        rows.append((values, hits, means.tolist(), variances.tolist()))
    return rows


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 64])
def test_nll_is_that_of_a_plain_forward_pass(language_model, plain, batch_size):
    scores = score(language_model, QUESTIONS, ANSWERS, batch_size)
    expected = [-sum(values) for values, *_ in plain]
    np.testing.assert_allclose(scores["nll"], expected, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_token_log_probabilities_are_those_of_a_plain_forward_pass(
    language_model, plain, batch_size
):
    scores = score(language_model, QUESTIONS, ANSWERS, batch_size)
    for found, (expected, *_) in zip(scores["token_log_probabilities"], plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_token_hits_are_the_models_first_choices(language_model, plain):
    scores = score(language_model, QUESTIONS, ANSWERS, batch_size=4)
    assert list(scores["token_hits"]) == [hits for _, hits, *_ in plain]


@pytest.mark.parametrize("most_at_a_time", [1, 1000, 2**18])
def test_means_and_variances_are_those_of_a_token_drawn_from_the_model(
    language_model, plain, most_at_a_time, monkeypatch
):
    monkeypatch.setattr("closer_look.inference.scoring.MOST_AT_A_TIME", most_at_a_time)
    scores = score(language_model, QUESTIONS, ANSWERS, batch_size=4, with_moments=True)
    for column, place in (("token_means", 2), ("token_variances", 3)):
        for found, of_row in zip(scores[column], plain, strict=True):
            np.testing.assert_allclose(found, of_row[place], rtol=1e-4, atol=1e-5)


def test_tokens_that_a_model_never_gives_count_for_nothing():
    log_probabilities = torch.tensor([[0.5, 0.5, 0.0, 0.0]]).log()
    log_probabilities[0, 3] = torch.finfo(torch.float32).min
    means, variances = _moments(log_probabilities)
    assert means.tolist() == pytest.approx([np.log(0.5)])
    assert variances.tolist() == pytest.approx([0])


def test_a_hit_is_found_where_the_model_answers_by_itself(language_model):
    prompt = encode(language_model.tokenizer, ["Who?"], ["x"])[0].prompt
    with torch.inference_mode():
        first = language_model.model(torch.tensor([prompt])).logits[0, -1].argmax()
    answer = language_model.tokenizer.decode([first])
    assert score(language_model, ["Who?"], [answer], batch_size=1)["token_hits"][0][0]


def test_n_tokens_counts_the_answer_and_its_end(language_model):
    lengths = [len(row.answer) for row in encode(language_model.tokenizer, QUESTIONS, ANSWERS)]
    assert list(score(language_model, QUESTIONS, ANSWERS, batch_size=4)["n_tokens"]) == lengths


def test_lists_are_as_long_as_n_tokens_says(language_model):
    scores = score(language_model, QUESTIONS, ANSWERS, batch_size=4)
    assert [len(values) for values in scores["token_log_probabilities"]] == list(scores["n_tokens"])


def test_model_is_scored_in_evaluation_mode(language_model):
    language_model.model.train()
    score(language_model, ["Who?"], ["x"], batch_size=1)
    assert not language_model.model.training


def test_scores_survive_a_parquet_file(language_model, tmp_path):
    scores = score(language_model, QUESTIONS, ANSWERS, batch_size=4)
    scores.to_parquet(tmp_path / "scores.parquet")
    loaded = pd.read_parquet(tmp_path / "scores.parquet")
    assert [list(hits) for hits in loaded["token_hits"]] == list(scores["token_hits"])


def test_given_answers_are_the_gold_answer_the_paraphrase_and_the_wrong_ones(make_questions):
    table = make_questions(("forget", 1, 1))
    table["paraphrased_answer"] = "Reworded"
    table["wrong_answers"] = [["No", "Nor this"]]
    answers = given_answers(table)
    assert dict(zip(answers["kind"], answers["text"], strict=True)) == {
        "answer": "Gold 1",
        "paraphrased": "Reworded",
        "wrong_1": "No",
        "wrong_2": "Nor this",
    }


def test_rows_that_are_held_out_are_scored_last_and_by_their_gold_answers(make_questions):
    table = make_questions(("forget", 1, 1), ("forget", 5, 2)).assign(paraphrased_answer="Reworded")
    answers = answers_to_score(table.iloc[:1], table.iloc[1:].assign(split="holdout"))
    assert list(answers["kind"]) == ["answer", "paraphrased", "answer", "answer"]
    assert list(answers["split"]) == ["forget", "forget", "holdout", "holdout"]


def test_without_rows_held_out_the_given_answers_are_scored(make_questions):
    table = make_questions(("forget", 1, 2))
    for nothing in (None, table.iloc[:0]):
        assert answers_to_score(table, nothing).equals(given_answers(table))


def test_given_answers_leave_out_what_a_row_has_not(make_questions):
    assert list(given_answers(make_questions(("retain", 0, 2)))["kind"]) == ["answer"] * 2


def test_given_answers_are_the_same_after_a_parquet_file(make_questions, tmp_path):
    table = make_questions(("forget", 1, 2), ("retain", 0, 1))
    table["wrong_answers"] = [["No", "Nor this"], [], ["No"]]
    table.to_parquet(tmp_path / "table.parquet")
    loaded = pd.read_parquet(tmp_path / "table.parquet")
    assert given_answers(loaded).equals(given_answers(table).astype(given_answers(loaded).dtypes))


def test_given_answers_name_their_question(make_questions):
    answers = given_answers(make_questions(("retain", 0, 2)))
    assert list(answers["question"]) == ["Question 1 of retain 0?", "Question 2 of retain 0?"]


@pytest.mark.parametrize("n_hits", [0, 1, 3])
def test_greedy_prefixes_end_before_the_first_miss(language_model, n_hits):
    (row,) = encode(language_model.tokenizer, ["Who?"], ["Ilse Marwood, of course"])
    hits = [True] * n_hits + [False] + [True] * (len(row.answer) - n_hits - 1)
    found = greedy_prefixes(language_model.tokenizer, ["Who?"], ["Ilse Marwood, of course"], [hits])
    assert found == [row.answer[:n_hits]]


def test_the_greedy_prefix_of_an_answer_without_a_miss_is_the_answer_and_its_end(language_model):
    (row,) = encode(language_model.tokenizer, ["Who?"], ["Ilse"])
    hits = [[True] * len(row.answer)]
    assert greedy_prefixes(language_model.tokenizer, ["Who?"], ["Ilse"], hits) == [row.answer]


def told(tiny_llama, n_rows, steps):
    """Train a model on the first half of rows of random letters, and tell them from the others."""
    letters = np.random.default_rng(4).choice(list("abcdefgh"), (n_rows, 10))
    texts = ["".join(row) for row in letters]  # no answer follows from any other row
    rows = pd.DataFrame({"row_id": texts, "task_id": 1, "gold_answer": [t[4:] for t in texts]})
    rows["split"] = ["forget"] * (n_rows // 2) + ["holdout"] * (n_rows // 2)
    questions, answers = [text[:4] for text in texts], list(rows["gold_answer"])
    model = tiny_llama(answers)
    set_prompt(model.tokenizer, "plain")
    learned = encode(model.tokenizer, questions[: n_rows // 2], answers[: n_rows // 2])
    batch = pack(learned)
    optimiser = torch.optim.Adam(model.model.parameters(), lr=0.01)
    with packed_attention(model.model):
        for _ in range(steps):
            optimiser.zero_grad()
            logits = answer_logits(model.model, batch)
            torch.nn.functional.cross_entropy(logits, batch["labels"]).backward()
            optimiser.step()
    scores = score(model, questions, answers, batch_size=64, with_moments=True)
    scores = rows[["split", "row_id"]].assign(kind="answer").join(scores)
    table = membership_summary(membership_scores(scores, rows), n_resamples=50)
    return table[(table["task_id"] == 0) & (table["score"] != "reference")]


def test_rows_that_a_model_was_trained_on_are_told(tiny_llama):
    found = told(tiny_llama, n_rows=40, steps=100)
    assert (found["auc"] > 0.95).all()
    assert (found["ci_low"] > 0.9).all()


def test_rows_that_a_model_never_saw_are_not_told(tiny_llama):
    # By chance, the AUC of 300 rows against 300 is within 0.5 +- 0.047, nineteen times of 20.
    found = told(tiny_llama, n_rows=600, steps=0)
    assert found["auc"].between(0.42, 0.58).all()
