"""The model card: it parses, holds the run's numbers and settings, and no text of a row."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from closer_look.datasets.export_dataset import ExportDataset
from closer_look.models.adapters import with_adapter
from closer_look.models.export import ExportedModel, prepare
from closer_look.models.prompts import set_prompt
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.models import ExportParameters
from closer_look.parameters.training import LoraParameters
from closer_look.reporting.model_card import model_card
from closer_look.reporting.wording import (
    NEVER_MEASURED,
    NO_ATTACKS,
    NO_BENCHMARKS,
    NO_MEMBERSHIP,
    OTHER_ATTACKS,
)

METHOD = MethodParameters(
    label="ME+GD",
    forget={"loss": "maximum_entropy", "weight": 0.25},
    retain={"loss": "gradient_descent"},
)
SMALL = {"layers": 4, "hidden_size": 192, "heads": 3, "vocabulary_size": 2048}
RECORD = {
    "parameters": {
        "experiment": {"n_tasks": 2, "finetuning": False},
        "base_model": {"small_llama": SMALL, "prompt": "plain"},
        "unlearning": {"learning_rate": 3e-4},
        "forget_set": {"seed": 1001},
        "judges": {"embedder": "/home/somebody/embedder"},
    },
    "libraries": {"torch": "2.9.1", "rich": "15.0"},
    "commit": "c0ffee",
    "python": "3.11.9",
    "platform": "Linux",
}


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 3), ("forget", 2, 2), ("forget", 3, 7), ("retain", 0, 4))


@pytest.fixture
def table():
    """Two tasks of two methods, and the model before."""
    rows = [("before", 0, 0.75, 0.25), ("ME+GD", 1, 0.7, 0.8), ("ME+GD", 2, 0.625, 0.875)]
    table = pd.DataFrame(
        [*rows, ("GA+GD", 2, 0.111, 0.999)],
        columns=["method", "after_task", "model_utility", "forget_efficacy_of_tasks_so_far"],
    )
    for name in ("model_utility", "forget_efficacy_of_tasks_so_far"):
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - 0.05, table[name] + 0.05
    for name in ("forget_quality", "tofu_model_utility"):
        table[name] = table[f"{name}_low"] = table[f"{name}_high"] = np.nan
    terms = {"model_utility_terms": "rouge of retain", "forget_efficacy_terms": "rouge of forget"}
    return table.assign(**terms, reasons="forget_quality: there are no scores")


@pytest.fixture
def write(questions, table):
    def write(adapters="merged", table=table, method=METHOD, membership=None, **parameters):
        record = RECORD | {"parameters": RECORD["parameters"] | parameters}
        return model_card(
            method=method,
            summary_table=table,
            questions=questions,
            run_record=record,
            adapters=adapters,
            membership=membership,
        )

    return write


def pretrained(name):
    return {"pretrained": name, "prompt": "chat_template"}


def test_numbers_are_in_the_text_and_in_the_metadata(write):
    card = ModelCard(write())
    assert "| 0.750 (0.700 to 0.800) | 0.625 (0.575 to 0.675) |" in card.text
    assert "| 0.250 (0.200 to 0.300) | 0.875 (0.825 to 0.925) |" in card.text
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {"model_utility": 0.625, "forget_efficacy_of_tasks_so_far": 0.875}
    assert "MU holds rouge of retain. FE holds rouge of forget." in card.text
    assert "Missing: forget_quality: there are no scores." in card.text
    assert "0.111" not in card.text  # of another method


def test_numbers_that_a_run_has_not_have_no_row(write, table):
    assert "TOFU's utility" not in write()
    quality = table.assign(forget_quality=2.19e-16)
    assert "| 2.19e-16 |" in write(table=quality)


def test_rows_are_counted(write):
    text = write()
    assert "asked to forget 5 questions in 2 requests" in text
    assert "go on answering 11 others" in text  # four to retain, and a task that was not reached


def test_no_text_of_a_row_is_in_it(write, questions):
    text = write()
    columns = ["question", "answer", "gold_answer", "reference_answer", "row_id"]
    texts = questions[columns].to_numpy().ravel()
    assert len(texts) > 50
    assert [one for one in texts if one in text] == []


def test_method_settings_and_versions_are_in_it(write):
    text = write()
    assert "On what is to be forgotten: make every next word equally likely" in text
    settings = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    assert "weight: 0.25" in settings
    assert "learning_rate: 0.0003" in settings
    assert "Made with torch 2.9.1, Python 3.11.9, commit c0ffee." in text
    assert "All weights were trained." in text
    some = METHOD.model_copy(update={"trainable": (r".*\.down_proj\.weight",)})
    assert "All weights were trained." not in write(method=some)


def test_a_method_without_training_quotes_its_instruction(write):
    text = write(method=MethodParameters(label="ME+GD", instruction="Say no word of {subjects}."))
    assert "its prompt asks the model: “Say no word of {subjects}.”" in text
    assert "weights were trained" not in text


def test_what_the_numbers_do_not_show_is_said(write):
    text = " ".join(write().split())
    assert "does not prove that the knowledge is gone" in text
    for sentence in (*NEVER_MEASURED, *NO_ATTACKS, NO_MEMBERSHIP, NO_BENCHMARKS):
        assert sentence in text
    assert NO_BENCHMARKS not in " ".join(write(experiment={"downstream": True}).split())


def test_what_attacks_got_back_is_among_the_numbers(write, table):
    residual = table.assign(residual_knowledge=[1, np.nan, 0.4, 0.222], residual_attack="Sampling")
    residual = residual.assign(residual_knowledge_low=0.3, residual_knowledge_high=0.5)
    text = " ".join(write(table=residual).split())
    assert "| 1.000 (0.300 to 0.500) | 0.400 (0.300 to 0.500) |" in text
    assert "this one brought most back: Sampling." in text
    assert OTHER_ATTACKS[0] in text
    assert [sentence for sentence in NO_ATTACKS if sentence in text] == []


def test_membership_is_among_the_numbers(write):
    told = pd.DataFrame(
        {"method": ["before", "me_gd"], "after_task": [0, 2], "auc": [0.97, 0.4]}
        | {"ci_low": [0.95, 0.3], "ci_high": [1.0, 0.5]}
    )
    told = told.assign(score="min_k", task_id=0, privleak=np.nan, n_forget=5, n_holdout=5)
    text = write(membership=told, methods={"me_gd": {"label": "ME+GD"}})
    assert "(Min-K%)" in text
    assert "| 0.970 (0.950 to 1.000) | 0.400 (0.300 to 0.500) |" in text
    assert NO_MEMBERSHIP not in " ".join(text.split())


@pytest.mark.parametrize(
    ("adapters", "library", "loader"),
    [
        ("merged", "transformers", "= AutoModelForCausalLM."),
        ("separate", "peft", "= AutoPeftModelForCausalLM."),
    ],
)
def test_adapters_are_merged_or_named(write, adapters, library, loader):
    card = ModelCard(write(adapters, unlearning={"lora": {"rank": 8}}))
    assert card.data.library_name == library
    assert loader in card.text
    assert "LoRA adapters of rank 8" in card.text
    assert ("merged into these weights" in card.text) == (adapters == "merged")


@pytest.mark.parametrize("adapters", ["merged", "separate"])
def test_a_model_that_is_used_as_the_card_says_does_not_sample(
    write, tiny_llama, tmp_path, adapters
):
    """Though its base model does; two answers of a random model that samples are not the same."""
    base, folder = tmp_path / "base", tmp_path / "export"
    made = tiny_llama(["One, two."])
    set_prompt(made.tokenizer, "plain")
    made.model.generation_config.update(do_sample=True, temperature=9.0)
    made.model.save_pretrained(base)
    made.model.name_or_path = str(base)
    adapted = prepare(with_adapter(made, LoraParameters()), ExportParameters(adapters=adapters))
    card = write(adapters, unlearning={"lora": {"rank": 8}})
    ExportDataset(filepath=folder.as_posix()).save(ExportedModel(adapted, card))
    snippet = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    first, second = {"folder": str(folder)}, {"folder": str(folder)}
    for names in (first, second):
        exec(snippet, names)  # noqa: S102
        assert names["model"].generation_config.do_sample is False
    assert first["answer"].equal(second["answer"])
    assert first["answer"].shape[1] > first["inputs"]["input_ids"].shape[1]


def test_without_adapters_nothing_is_separate(write):
    assert ModelCard(write("separate")).data.library_name == "transformers"


def test_a_base_model_of_the_hub_is_named_and_its_licence_holds(write):
    card = ModelCard(write(base_model=pretrained("someone/model")))
    assert card.data.base_model == "someone/model"
    assert "a changed copy of someone/model, whose licence holds for it" in card.text


def test_a_folder_is_named_without_the_machine(write, tmp_path):
    card = ModelCard(write(base_model=pretrained(str(tmp_path / "chat-7b"))))
    assert card.data.base_model is None
    assert "# chat-7b after unlearning with ME+GD" in card.text
    assert "chat-7b, as it came" in card.text
    assert str(tmp_path) not in card.content
    assert "somebody" not in card.content


def test_names_are_no_markdown(write, table):
    label = "<b>A</b> [x](javascript:y) **z** `q` _u_ | a_b &lt; ```"
    named = METHOD.model_copy(update={"label": label})
    base = pretrained("models/<img src=x>_w_")
    table = table.replace("ME+GD", label)
    text = ModelCard(write(table=table, method=named, base_model=base)).text
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [token for token in tokens if token.type == "inline"]
    shown = ["".join(child.content for child in token.children) for token in inline]
    assert shown[0] == f"<img src=x>_w_ after unlearning with {label}"
    assert f"The method is {label}. On what" in " ".join(shown)
    kinds = {child.type for token in inline for child in token.children}
    assert not kinds & {"html_inline", "link_open", "em_open", "image"}
    assert "html_block" not in {token.type for token in tokens}
    (fence,) = [token for token in tokens if token.type == "fence" and token.info == "yaml"]
    assert yaml.safe_load(fence.content)["method"]["label"] == label


def test_a_number_that_was_not_measured_is_not_in_the_metadata(write, table):
    table = table.assign(model_utility=np.nan, model_utility_low=np.nan, model_utility_high=np.nan)
    (result,) = ModelCard(write(table=table)).data.eval_results
    assert result.metric_type == "forget_efficacy_of_tasks_so_far"
    nothing = table.assign(forget_efficacy_of_tasks_so_far=np.nan, forget_efficacy_terms="")
    card = ModelCard(write(table=nothing))
    assert not card.data.eval_results
    assert "FE holds nothing." in card.text
