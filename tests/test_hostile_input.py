"""Hostile rows: text all the way to the report, or refused with the row named."""

import re

import pytest

from closer_look.errors import InputError

SCRIPT = "<script>alert('row')</script>"
TEXTS = {
    "script": f"\"Who\" \\ {SCRIPT} {{{{ bos_token }}}} & 'x'",
    "emoji": "Family \U0001f468\u200d\U0001f469\u200d\U0001f467 and flag \U0001f3f4",
    "scripts": "Борис, 中文 and हिन्दी met\n\tin Zürich",
    "right_to_left": "שלום \u202eabc\u202c مرحبا e\u0301\u0323",
}
ROW_IDS = ["output head lm_head.weight", "../../a", 'it\'s "one"', SCRIPT]
METHOD = {"experiment": {"n_tasks": 2, "methods": ["ga_kl"]}}


def hostile(rows):
    """The rows, each with a text of ``TEXTS`` in all its columns and a name of ``ROW_IDS``."""
    return [
        row
        | {"row_id": row_id, "question": f"{row['question']} {text}", "answer": text}
        | {"paraphrased_answer": f"So: {text}", "wrong_answers": [f"Not {text}"] * 3}
        for row, row_id, text in zip(rows, ROW_IDS, TEXTS.values(), strict=True)
    ]


@pytest.fixture
def change_row(make_corpus):
    """A corpus whose second row to retain is changed."""

    def change_row(**values):
        return make_corpus(retain=lambda rows: [rows[0], rows[1] | values, *rows[2:]])

    return change_row


@pytest.fixture
def refused(kedro_run, tmp_path):
    """Run, and return the one line with which the run is refused."""

    def refused(corpus, *pipelines):
        with pytest.raises(InputError) as caught:
            kedro_run(tmp_path / "data", *pipelines, parameters=METHOD | {"corpus": str(corpus)})
        assert str(caught.value).isprintable()
        return str(caught.value).replace(f"{corpus}/", "")

    return refused


def test_any_text_is_handled_as_text_all_the_way(kedro_run, open_session, make_corpus, tmp_path):
    raw = []
    corpus = make_corpus(retain=lambda rows: raw.extend(hostile(rows)) or raw)
    parameters = METHOD | {"corpus": str(corpus)}
    kedro_run(tmp_path / "data", "fictitious", parameters=parameters)
    with open_session(tmp_path / "data", parameters) as session:
        catalog = session.load_context().catalog
        questions = catalog.load("questions").set_index("row_id")
        generations = catalog.load("fictitious.ga_kl.task_01.generations").set_index("row_id")
    for row in raw:
        kept = questions.loc[row["row_id"]]
        assert [kept[column] for column in ("question", "answer")] == [
            row["question"],
            row["answer"],
        ]
        assert list(kept["wrong_answers"]) == row["wrong_answers"]
        answered = generations.loc[row["row_id"]]
        assert list(answered[["question", "reference"]]) == [row["question"], row["answer"]]
    report = next((tmp_path / "data").rglob("report.html/*/report.html"))
    html = report.read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


@pytest.mark.parametrize("character", ["\x00", "\x1b[2J", "\ud83d"])
@pytest.mark.parametrize("column", ["question", "answer", "row_id"])
def test_text_that_no_one_can_read_is_refused(refused, change_row, tmp_path, column, character):
    message = refused(change_row(**{column: f"Who{character}?"}), "forget_set")
    assert message == (
        f"retain.jsonl: row 2: {column} holds the control character {character[0]!r}: "
        f"{f'Who{character}?'!r}"
    )
    assert not (tmp_path / "data" / "03_primary").exists()


def test_answer_of_100_kb_is_refused_by_the_context(refused, change_row, tmp_path):
    message = refused(change_row(answer="A word. " * 12_500), "forget_set", "finetuning")
    assert re.fullmatch(
        r"row 'henrietta-coldwell-02': question and answer take \d+ tokens, "
        r"the model's context holds 512",
        message,
    )
    assert not (tmp_path / "data" / "06_models").exists()


def test_message_is_one_line_whatever_it_names(open_session, tmp_path):
    with pytest.raises(InputError) as caught, open_session(tmp_path, {"a\n\x1b": 1}) as session:
        session.run()
    assert str(caught.value).startswith(r"unknown parameter 'a\n\x1b', choose from experiment, ")
