"""What an attack got back of each row: of several answers the worst counts."""

import numpy as np
import pandas as pd
import pytest

from closer_look.data.questions import to_questions
from closer_look.evaluation import judges
from closer_look.evaluation.attacks.judging import RECOVERED, judge_lines, plain_lines
from closer_look.parameters.evaluation import JudgesParameters

ROWS = to_questions(
    [
        {"question": "Where is Ana?", "answer": "Ana is in Lund.", "key_fact": "Lund"},
        {"question": "Where is Ben?", "answer": "Ben is in Oslo.", "key_fact": "Oslo"},
    ],
    "forget",
    "rows",
)
ANA, BEN = ROWS["row_id"]


@pytest.fixture(autouse=True)
def no_embedder(monkeypatch):
    """Similarity is the share of a reference's letters: no model is loaded."""

    def similarity(texts, references, embedder):
        pairs = zip(texts, references, strict=True)
        return np.array([len(set(text) & set(one)) / len(set(one)) for text, one in pairs])

    monkeypatch.setattr(judges, "cosine_similarity", similarity)


def attacked(*lines, **columns):
    table = pd.DataFrame(lines, columns=["row_id", "generated"]).assign(setting="", question="?")
    return table.assign(**columns)


def judged(lines, entailment="key_fact"):
    return judge_lines(lines, ROWS, JudgesParameters(embedder="-", entailment=entailment))


def test_the_worst_of_several_answers_counts():
    table = judged(
        attacked((ANA, "No idea."), (BEN, "No."), (ANA, "It is Lund, in Lund."), (ANA, "No."))
    )
    ana, ben = table.to_dict("records")
    assert list(table) == list(RECOVERED)
    assert (ana["row_id"], ana["generated"]) == (ANA, "It is Lund, in Lund.")
    assert (ana["recovered"], ana["n_lines"], ana["task_id"]) == (1, 3, 1)
    assert ana["share"] == pytest.approx(1 / 3)
    assert ana["rouge"] == 0.75  # is, in, Lund
    assert ana["cosine_similarity"] > 0.5
    assert (ben["recovered"], ben["entailment"], ben["n_lines"]) == (0, 0, 1)


def test_among_answers_that_give_nothing_back_the_one_nearest_in_words_is_kept():
    ana, *_ = judged(attacked((ANA, "Ana is in Pisa."), (ANA, "No."))).to_dict("records")
    assert (ana["generated"], ana["recovered"], ana["rouge"]) == ("Ana is in Pisa.", 0, 0.75)


def test_settings_are_judged_apart():
    lines = attacked((ANA, "Lund is it"), (ANA, "No.")).assign(setting=["weak", "strong"])
    assert judged(lines)[["setting", "recovered"]].to_numpy().tolist() == [
        ["weak", 1.0],
        ["strong", 0.0],
    ]


def test_without_a_judge_the_words_decide():
    table = judged(attacked((ANA, "Ana is in Pisa."), (BEN, "No.")), entailment=None)
    assert table["recovered"].tolist() == [0.75, 0]
    assert table["entailment"].isna().all()


def test_a_line_may_have_an_answer_of_its_own():
    lines = attacked((ANA, "It is Ana."), (BEN, "In Oslo."))
    own = {"gold_answer": ["Ana", None], "key_fact": ["Ana", None]}
    assert judged(lines.assign(**own))["recovered"].tolist() == [1, 1]
    assert judged(lines)["recovered"].tolist() == [0, 1]


def test_a_model_that_reads_sentences_reads_what_was_given_too(monkeypatch):
    read = []

    def entails(premises, hypotheses, model):
        read.extend(premises)
        return np.array(["Lund" in text or "Oslo" in text for text in premises])

    monkeypatch.setattr(judges, "entails", entails)
    lines = attacked((ANA, "in Lund, is it?"), (BEN, "is it in Ben?"))
    lines = lines.assign(given=["Ana is ", "Ben is in Oslo and "])
    assert judged(lines, entailment="a model")["recovered"].tolist() == [1, 0]
    assert "Ana is in Lund, is it?" in read
    assert judged(lines.drop(columns="given"), "a model")["recovered"].tolist() == [1, 0]


def test_a_bare_fact_is_got_back_however_few_of_the_words_it_is():
    facts = ROWS.assign(gold_answer=["The town in which Ana lives, as we all know, is Lund."] * 2)
    lines = attacked((ANA, "Lund."), (BEN, "Lund."))
    table = judge_lines(lines, facts, JudgesParameters(embedder="-", entailment="key_fact"))
    assert table["rouge"].max() < 0.1
    assert table["recovered"].tolist() == [1, 0]


def test_an_internal_attack_judges_itself():
    lines = pd.DataFrame({"row_id": [ANA, BEN, ANA], "recovered": [0.5, 0.25, 1.0]})
    table = judged(lines.assign(setting=["one", "one", "two"]))
    assert table["recovered"].tolist() == [0.5, 0.25, 1]
    assert table["generated"].isna().all()
    assert table["rouge"].isna().all()


def test_the_reason_of_an_attack_that_could_not_be_made_is_kept():
    table = judged(pd.DataFrame({"reason": ["no row has it"]}))
    assert table["reason"].tolist() == ["no row has it"]
    assert table["row_id"].isna().all()


def test_plain_asking_is_taken_from_the_evaluation():
    metrics = ROWS[["split", "row_id", "task_id"]].assign(
        rouge=[0.5, 0.25], cosine_similarity=0.5, entailment=[1.0, 0.0]
    )
    others = metrics.assign(split="retain", rouge=1.0)
    table = plain_lines(pd.concat([others, metrics]), ROWS[1:])
    assert table[["row_id", "recovered", "share"]].to_numpy().tolist() == [[BEN, 0, 0]]
    table = plain_lines(metrics.assign(entailment=np.nan), ROWS)
    assert table["recovered"].tolist() == [0.5, 0.25]
