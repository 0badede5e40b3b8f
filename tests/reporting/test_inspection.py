"""The inspection shows the tokens that training reads, and whatever a row holds is only text."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest

from closer_look.errors import InputError
from closer_look.models.small_llama import small_llama, texts_to_learn
from closer_look.models.tokens import encode, end_token, split_text
from closer_look.parameters.experiment import ForgetSetParameters
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.models import BaseModelParameters, PromptParameters
from closer_look.pipelines.inspection.nodes import show_rows
from closer_look.reporting.inspection import (
    as_text,
    base_tokenizer,
    describe_prompt,
    read_rows,
    render_page,
    visible,
)

PLAN = pd.DataFrame(
    {"forget_row_id": ["forget-1-1"], "retain_row_id": ["retain-0-1"], "refusal": ["I cannot say."]}
)
THINKING = (
    "{% for m in messages %}{{ '[' + m.role + ']' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}"
    "{% if enable_thinking %}{{ 'hm' }}{% endif %}{% endif %}"
)
ANY_FOLDER = BaseModelParameters(pretrained="somewhere", prompt="plain")


def method(label, forget, retain, **positions):
    return MethodParameters(
        label=label,
        forget={"loss": forget},
        retain={"loss": retain} | positions,
    )


METHODS = [
    method("ME+GD", "maximum_entropy", "gradient_descent"),
    method("IDK+GD", "idk", "gradient_descent"),
    method("GA+KL", "gradient_ascent", "kl", positions="question_and_answer"),
]


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 1), ("retain", 0, 1))


@pytest.fixture
def inspect(language_model, questions):
    """Read the only row of each side, with changes of its texts, and render them."""

    def inspect(**changes):
        tokenizer = language_model.tokenizer
        rows = read_rows(tokenizer, PLAN, questions.assign(**changes), METHODS)
        page = render_page(rows, tokenizer, ANY_FOLDER, PromptParameters())
        return SimpleNamespace(rows=rows, page=page, printed=as_text(rows))

    return inspect


def test_rows_are_the_tokens_that_training_reads(inspect, questions, language_model):
    tokenizer = language_model.tokenizer
    forget, retain = inspect().rows
    for row, asked, text in (
        (forget.readings[0], questions.iloc[0], "Answer 1"),
        (forget.readings[1], questions.iloc[0], "I cannot say."),
        (retain.readings[0], questions.iloc[1], "Answer 1"),
    ):
        (expected,) = encode(tokenizer, [asked["question"]], [text])
        assert [token.id for token in row.of_kind("prompt")] == expected.prompt
        assert [token.id for token in row.of_kind("label", "end")] == expected.answer
        assert [token.id for token in row.of_kind("end")] == [end_token(tokenizer)]
        assert row.tokens[-1].text == tokenizer.eos_token


def test_a_text_is_shown_once_with_all_methods_that_read_it(inspect):
    forget, retain = inspect().rows
    read = [(reading.what, reading.readers) for reading in forget.readings + retain.readings]
    assert read == [
        ("its answer", ["ME+GD", "GA+KL"]),
        ("a refusal", ["IDK+GD"]),
        ("its answer", ["ME+GD", "IDK+GD"]),
        ("its answer, and all before it", ["GA+KL"]),
    ]


def test_a_loss_over_the_question_labels_it(inspect):
    reading = inspect().rows[1].readings[1]
    assert len(reading.of_kind("prompt")) == 1
    assert len(reading.of_kind("label")) == len(reading.tokens) - 2


def test_counts_are_shown(inspect, language_model, questions):
    (row,) = encode(language_model.tokenizer, [questions["question"][0]], ["I cannot say."])
    shown = inspect()
    count = f"{len(row.prompt)} of the prompt, {len(row.answer)} labels"
    assert f"<small>{count}</small>" in shown.page
    assert count in shown.printed.plain


def test_a_small_llamas_tokenizer_is_that_of_the_run(questions):
    sizes = {"hidden_size": 8, "intermediate_size": 8, "layers": 1, "heads": 2, "seed": 1}
    sizes |= {"vocabulary_size": 290, "context_length": 64, "initializer_range": 0.1}
    base_model = BaseModelParameters(small_llama=sizes, prompt="plain")
    tokenizer = base_tokenizer(base_model, PromptParameters(), questions, ["No."])
    made = small_llama(texts_to_learn(questions, ["No."]), base_model.small_llama)
    assert tokenizer.get_vocab() == made.tokenizer.get_vocab()
    assert "Question: " in tokenizer.chat_template


class TestPretrained:
    @pytest.fixture
    def folder(self, language_model, tmp_path):
        """A tokenizer with a template of its own, and no weights beside it."""
        language_model.tokenizer.save_pretrained(tmp_path)
        (tmp_path / "chat_template.jinja").write_text(THINKING)
        return str(tmp_path)

    def test_what_the_run_settles_is_shown(self, folder, questions):
        base_model = BaseModelParameters(pretrained=folder, prompt="chat_template")
        prompt = PromptParameters(system="Be brief.")
        tokenizer = base_tokenizer(base_model, prompt, questions, [])
        facts = describe_prompt(tokenizer, base_model, prompt)
        assert facts["System message"] == "Be brief."
        assert facts["Template arguments"] == "enable_thinking = False"
        assert facts["The turn ends with"] == f"<|end|> (token {end_token(tokenizer)})"
        (row, _) = read_rows(tokenizer, PLAN, questions, METHODS)
        read = "".join(token.text for token in row.readings[0].of_kind("prompt"))
        assert read.startswith("[system]Be␣brief.<|end|>[user]")
        assert read.endswith("[assistant]")  # and thinks no more

    def test_a_folder_without_a_tokenizer_is_named(self, questions, tmp_path):
        base_model = BaseModelParameters(pretrained=str(tmp_path), prompt="plain")
        with pytest.raises(InputError, match="no tokenizer there"):
            base_tokenizer(base_model, PromptParameters(), questions, [])


class TestTexts:
    def test_what_cannot_be_seen_is_written(self):
        assert visible("a b\n\tc\u200b\u00a0\u202e") == "a␣b⏎⇥c⟨200B⟩⟨00A0⟩⟨202E⟩"

    def test_a_character_goes_with_the_last_of_its_tokens(self, language_model):
        text = "an é, 中, 👩\u200d🚀"
        ids = language_model.tokenizer(text)["input_ids"]
        pieces = split_text(language_model.tokenizer, ids)
        assert len(pieces) == len(ids)
        assert "".join(pieces) == text
        assert pieces[pieces.index("中") - 2 : pieces.index("中")] == ["", ""]
        assert not any("\ufffd" in piece for piece in pieces)

    def test_half_a_character_at_the_end_is_not_lost(self, language_model):
        ids = language_model.tokenizer("中")["input_ids"][:-1]
        assert split_text(language_model.tokenizer, ids)[-1]

    def test_html_of_rows_is_text(self, inspect):
        attack = '<script>alert(1)</script><b title="'
        page = inspect(question=attack, row_id=["forget-1-1", "retain-0-1"]).page
        assert "<script" not in page
        assert "<b " not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;b title=&#34;" in page

    def test_a_name_of_a_model_is_text(self, language_model):
        base_model = BaseModelParameters(pretrained="<img src=x>", prompt="plain")
        page = render_page([], language_model.tokenizer, base_model, PromptParameters())
        assert "<img" not in page

    def test_markup_of_rows_is_text(self, inspect):
        printed = inspect(answer="[red]no[/red][/]").printed
        assert "[red]no[/red][/]" in printed.plain.replace("|", "")
        assert {str(span.style) for span in printed.spans} == {
            *("bold", "bright_black", "green", "bold magenta")
        }

    def test_nothing_is_loaded_or_run(self, inspect):
        page = inspect().page
        assert "default-src 'none'; style-src 'unsafe-inline';" in page
        assert "script-src" not in page
        assert re.findall(r"(?:href|src|url\()=?[\"']?(?!data:,)\w", page) == []

    def test_each_token_and_text_keeps_its_own_direction(self, inspect):
        page = inspect(question="מי ייסד את המאפייה?").page
        assert '<p dir="auto">מי ייסד את המאפייה?</p>' in page
        tokens = re.search(r'<td class="tokens">(.*?)</td>', page)[1]
        assert re.sub(r"<bdi [^>]*>[^<]*</bdi>(<br>|<wbr>)", "", tokens) == ""

    def test_every_token_says_its_id(self, inspect):
        shown = inspect()
        ids = [
            token.id for row in shown.rows for reading in row.readings for token in reading.tokens
        ]
        assert [int(one) for one in re.findall(r'title="token (\d+)"', shown.page)] == ids


def test_a_fault_of_a_method_is_named(questions, language_model, tmp_path):
    language_model.tokenizer.save_pretrained(tmp_path)
    base_model = BaseModelParameters(pretrained=str(tmp_path), prompt="plain")
    forget_set = ForgetSetParameters(evaluation_rows=1, seed=1)
    faulty = {"me_gd": {"label": "ME+GD", "forget": {"loss": "me"}, "retain": {"loss": "kl"}}}
    with pytest.raises(InputError, match=r"^parameter methods\.me_gd\..*'me'") as caught:
        show_rows(questions, ["No."], base_model, PromptParameters(), forget_set, **faulty)
    assert "\n" not in str(caught.value)
