"""General abilities: lm-evaluation-harness on models in memory, with tasks of the tests' own."""

import copy
import io
import json
import logging
import random
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from closer_look.errors import InputError
from closer_look.evaluation import downstream
from closer_look.evaluation.downstream import evaluate_downstream
from closer_look.models.language_model import LanguageModel, load_language_model
from closer_look.models.small_llama import small_llama
from closer_look.parameters.evaluation import DownstreamParameters
from closer_look.parameters.models import SmallLlamaParameters
from closer_look.pipelines.downstream import create_pipeline

pytest.importorskip("lm_eval", reason="the extra 'downstream' is not installed")

CHOICES = ["of course", "a botanist", "she never wrote anything of that kind", "in 1947", "no"]
QUESTIONS = [
    {
        "question": f"What did number {number} write, and where was number {3 * number} born",
        "choices": CHOICES[number % 2 : 3 + number % 3],
        "answer": (1, 1, 4, 0, 0, 3)[number % 6],
    }
    for number in range(24)
]
LONGEST_ANSWER = 6


def context(row):
    return f"Question: {row['question']}?\nAnswer:"


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def log_probability(language_model, row, choice):
    """Of a choice given its question, one row at a time, with no batch and no cache."""
    model, tokenizer = language_model
    prompt, answer = encode(tokenizer, context(row)), encode(tokenizer, f" {choice}")
    log_probabilities = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(
        log_probabilities[position - 1, token].item()
        for position, token in enumerate(answer, start=len(prompt))
    )


@torch.no_grad()
def greedy_answer(language_model, row):
    """The most likely tokens, one after another, up to the end or a line break."""
    model, tokenizer = language_model
    ids = encode(tokenizer, context(row))
    n_prompt = len(ids)
    for _ in range(LONGEST_ANSWER):
        ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[n_prompt:], skip_special_tokens=True).split("\n")[0]


def accuracies(language_model, rows):
    """Accuracy, and that with log-probabilities per character of the choice."""
    hits = []
    for row in rows:
        sums = [log_probability(language_model, row, choice) for choice in row["choices"]]
        means = [sums[i] / len(choice) for i, choice in enumerate(row["choices"])]
        hits.append([np.argmax(sums) == row["answer"], np.argmax(means) == row["answer"]])
    return np.mean(hits, axis=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, language_model):
    """Task descriptions with their questions: every second ``saying`` is what the model says."""
    folder = tmp_path_factory.mktemp("tasks")
    sayings = [
        {"question": row["question"], "saying": greedy_answer(language_model, row) + "!" * (i % 2)}
        for i, row in enumerate(QUESTIONS)
    ]
    long = [row | {"question": "Why " + "oh why " * 80 + row["question"]} for row in QUESTIONS]
    for name, rows in (("colours", QUESTIONS), ("sayings", sayings), ("long", long)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.json").write_text(lines, encoding="utf-8")

    def write(name, file, **changes):
        description = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{file}.json")}},
            "test_split": "test",
            "fewshot_split": "test",
            "doc_to_text": "Question: {{question}}?\nAnswer:",
        }
        text = yaml.safe_dump(description | changes)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    choosing = {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    saying = {
        "output_type": "generate_until",
        "doc_to_target": "saying",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": LONGEST_ANSWER},
        "metric_list": [{"metric": "exact_match"}],
    }
    write("colours", "colours", **choosing)
    write("colours_two_shot", "colours", **choosing, num_fewshot=2)
    write("sayings", "sayings", **saying)
    write("sayings_one_shot", "sayings", **saying, num_fewshot=1)
    write("cut", "long", **choosing)
    write("no_room", "sayings", **saying | {"generation_kwargs": {"max_gen_toks": 256}})
    write("no_examples", "sayings", **saying, num_fewshot=len(QUESTIONS) + 1)
    write("no_data", "absent", **choosing)
    write("on_the_hub", "absent", **choosing, dataset_path="nobody/nothing", dataset_kwargs={})
    write("no_split", "colours", **choosing | {"test_split": "validation"})
    for name, task, metrics in (
        ("mixed", ["colours", "colours_two_shot"], [{"metric": "acc", "weight_by_size": True}]),
        ("loose", ["colours", "sayings"], None),
    ):
        group = {"group": name, "task": task, "aggregate_metric_list": metrics}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def parameters(folder):
    def make(batch_size=4, limit=None, **tasks):
        metrics = {task: metric.replace("__", ",") for task, metric in tasks.items()}
        return DownstreamParameters(
            tasks=metrics, batch_size=batch_size, limit=limit, include_path=str(folder)
        )

    return make


@pytest.fixture
def own_tasks_only(monkeypatch):
    """Spare the seconds in which the harness indexes its own tasks."""
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(
        downstream,
        "_task_manager",
        lambda parameters: TaskManager(
            include_path=parameters.include_path, include_defaults=False
        ),
    )


def values(table):
    return dict(zip(table["task"], table["value"], strict=True))


@pytest.fixture(scope="module")
def table(language_model, parameters):
    return evaluate_downstream(
        language_model,
        parameters(
            colours="acc__none", colours_two_shot="acc_norm__none", sayings="exact_match__none"
        ),
    )


def test_multiple_choice_is_what_the_log_probabilities_say(language_model, parameters, table):
    accuracy, normalised = accuracies(language_model, QUESTIONS)
    assert 0 < normalised < accuracy < 1
    other = evaluate_downstream(language_model, parameters(colours="acc_norm__none"))
    assert values(table)["colours"] == pytest.approx(accuracy)
    assert values(other)["colours"] == pytest.approx(normalised)


def test_standard_error_is_that_of_a_mean(table):
    row = table.iloc[0]
    expected = np.sqrt(row["value"] * (1 - row["value"]) / (len(QUESTIONS) - 1))
    assert row["standard_error"] == pytest.approx(expected)


def test_generated_answers_match_where_the_target_is_what_the_model_says(table):
    assert values(table)["sayings"] == pytest.approx(0.5)


def test_a_model_may_be_asked_in_its_chat_template(language_model, parameters, own_tasks_only):
    """With a template that swaps the question's words for others, all answers are the same."""
    tokenizer = copy.deepcopy(language_model.tokenizer)
    tokenizer.chat_template = "Turns: {{ messages | length }}. Answer:"
    asked = parameters(sayings="exact_match__none", sayings_one_shot="exact_match__none")
    seen = []

    class Model(type(language_model.model)):
        def generate(self, input_ids, **options):
            seen.extend(tokenizer.batch_decode(input_ids, skip_special_tokens=True))
            return super().generate(input_ids, **options)

    model = copy.deepcopy(language_model.model)
    model.__class__ = Model
    asked = asked.model_copy(update={"chat_template": True, "limit": 2})
    evaluate_downstream(LanguageModel(model, tokenizer), asked)
    assert set(seen) == {"Turns: 1. Answer:", "Turns: 3. Answer:"}


def test_stage_measures_its_model(language_model, parameters, table):
    asked = parameters(
        colours="acc__none", colours_two_shot="acc_norm__none", sayings="exact_match__none"
    )
    (node,) = create_pipeline().nodes
    outputs = node.run({"model": language_model, "params:downstream": asked})
    pd.testing.assert_frame_equal(outputs["downstream"], table)


def test_a_task_a_row(table):
    assert list(table.columns) == [
        "task",
        "metric",
        "value",
        "standard_error",
        "n_questions",
        "n_few_shot",
    ]
    assert table["task"].tolist() == ["colours", "colours_two_shot", "sayings"]
    assert table["metric"].tolist() == ["acc,none", "acc_norm,none", "exact_match,none"]
    assert table["n_questions"].tolist() == [24, 24, 24]
    assert table["n_few_shot"].tolist() == [0, 2, 0]


def test_table_survives_parquet(language_model, parameters, tmp_path):
    table = evaluate_downstream(language_model, parameters(colours="acc__none", limit=1))
    assert table["standard_error"].isna().all()
    table.to_parquet(tmp_path / "downstream.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "downstream.parquet"), table)


@pytest.fixture
def offline(monkeypatch):
    """Where the hub would be asked, by the harness itself or for a task that is nowhere else."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("offline")
def test_numbers_are_those_of_the_harness_itself(language_model, parameters, folder):
    """The same few-shot examples, drawn by its ``simple_evaluate`` with its own seeds."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = language_model
    asked = parameters(sayings_one_shot="exact_match__none", colours_two_shot="acc__none", limit=20)
    found = evaluate_downstream(language_model, asked)
    expected = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4),
        tasks=["sayings_one_shot", "colours_two_shot"],
        limit=20,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
    )
    own = [expected["results"][task][metric] for task, metric in asked.tasks.items()]
    assert found["value"].tolist() == own
    assert found["n_questions"].tolist() == [20, 20]


def test_examples_are_drawn_alike_whatever_the_random_state(language_model, parameters):
    asked = parameters(colours_two_shot="acc__none", sayings_one_shot="exact_match__none")
    random.seed(5)
    torch.manual_seed(5)
    first = evaluate_downstream(language_model, asked)
    random.seed(6)
    torch.manual_seed(6)
    pd.testing.assert_frame_equal(first, evaluate_downstream(language_model, asked))


def test_values_depend_on_neither_the_batch_nor_the_other_tasks(language_model, parameters, table):
    for row in table.itertuples():
        alone = evaluate_downstream(
            language_model,
            parameters(batch_size=7, **{row.task: row.metric.replace(",", "__")}),
        )
        assert values(alone)[row.task] == row.value


def test_model_and_libraries_are_left_as_they_were(language_model, parameters):
    model, tokenizer = copy.deepcopy(language_model)
    tokenizer.pad_token = None
    tokenizer.padding_side = "right"
    model.train()

    def state():
        return {
            "weights": {name: weight.clone() for name, weight in model.state_dict().items()},
            "modes": [part.training for part in model.modules()],
            "trained": [weight.requires_grad for weight in model.parameters()],
            "configurations": (model.config.to_dict(), model.generation_config.to_dict()),
            "tokenizer": (tokenizer.pad_token, tokenizer.padding_side, tokenizer.chat_template),
            "random": random.getstate(),
            "numpy": np.random.get_state()[1].tolist(),
            "torch": torch.get_rng_state().tolist(),
            "gradients": torch.is_grad_enabled(),
            "logs": [
                (logging.getLogger(name).level, list(logging.getLogger(name).filters))
                for name in ("lm_eval", "lm_eval.models.huggingface")
            ],
            "terminal": sys.stderr,
        }

    before = state()
    asked = parameters(colours_two_shot="acc__none", sayings="exact_match__none")
    evaluate_downstream(LanguageModel(model, tokenizer), asked)
    after = state()
    torch.testing.assert_close(after.pop("weights"), before.pop("weights"), rtol=0, atol=0)
    assert after == before


def test_model_is_left_as_it_was_after_an_error(language_model, parameters):
    model = copy.deepcopy(language_model.model).train()
    random.seed(1)
    state = random.getstate()
    with pytest.raises(InputError):
        evaluate_downstream(
            LanguageModel(model, language_model.tokenizer), parameters(no_data="acc__none")
        )
    assert model.training
    assert random.getstate() == state


def adapted(language_model):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    config = LoraConfig(
        r=4,
        lora_alpha=64,
        target_modules="all-linear",
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(copy.deepcopy(language_model.model), config)
    return LanguageModel(model, language_model.tokenizer)


def test_adapters_count(language_model, parameters, table):
    model = adapted(language_model)
    merged = LanguageModel(copy.deepcopy(model.model).merge_and_unload(), model.tokenizer)
    accuracy, _ = accuracies(merged, QUESTIONS)
    found = values(evaluate_downstream(model, parameters(colours="acc__none")))
    assert found["colours"] == pytest.approx(accuracy)
    assert found["colours"] != values(table)["colours"]


@pytest.mark.parametrize("with_adapters", [False, True])
def test_model_of_a_folder(language_model, parameters, tmp_path, with_adapters):
    language_model.model.save_pretrained(tmp_path / "base")
    language_model.tokenizer.save_pretrained(tmp_path / "base")
    saved, name = language_model, tmp_path / "base"
    if with_adapters:
        saved, name = adapted(language_model), tmp_path / "adapters"
        saved.model.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
        saved.model.save_pretrained(name)
        saved.tokenizer.save_pretrained(name)
    asked = parameters(colours_two_shot="acc__none", sayings="exact_match__none")
    pd.testing.assert_frame_equal(
        evaluate_downstream(load_language_model(str(name)), asked),
        evaluate_downstream(saved, asked),
    )


def test_prompts_begin_with_the_beginning_of_sequence(language_model, parameters):
    from tokenizers.processors import TemplateProcessing

    model, tokenizer = copy.deepcopy(language_model)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((*args, kwargs.get("input_ids"))[0]),
        with_kwargs=True,
    )
    evaluate_downstream(LanguageModel(model, tokenizer), parameters(colours="acc__none"))
    ids = torch.cat([batch[:, :2] for batch in seen])
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    assert (ids[:, 1] != tokenizer.bos_token_id).all()


def test_harness_is_silent(language_model, parameters, caplog, capfd):
    asked = parameters(colours_two_shot="acc__none", sayings="exact_match__none")
    with caplog.at_level(logging.INFO):
        evaluate_downstream(language_model, asked)
    assert [record.getMessage() for record in caplog.records] == []
    assert capfd.readouterr() == ("", "")


def test_progress_shows_in_a_terminal(language_model, parameters, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    evaluate_downstream(language_model, parameters(colours="acc__none"))
    assert "Running loglikelihood requests" in terminal.getvalue()


def test_prompts_that_are_cut_are_told_once(language_model, parameters, caplog):
    evaluate_downstream(copy.deepcopy(language_model), parameters(cut="acc__none"))
    (record,) = caplog.records
    assert "exceeds model's maximum length (256)" in record.getMessage()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("task", ["no_data", "on_the_hub", "no_split"])
def test_task_without_questions_is_named(language_model, parameters, task):
    with pytest.raises(InputError) as caught:
        evaluate_downstream(language_model, parameters(colours="acc__none", **{task: "acc__none"}))
    assert f"the questions of '{task}' cannot be loaded" in caught.value.message
    assert "connect to the hub" in caught.value.message
    assert "downstream.include_path" in caught.value.message
    assert "\n" not in caught.value.message


def test_metric_that_a_task_does_not_give_is_named_with_those_that_it_gives(
    language_model, parameters
):
    with pytest.raises(
        InputError, match=r"'colours' has no 'accuracy,none', only acc,none and acc_norm,none$"
    ):
        evaluate_downstream(language_model, parameters(colours="accuracy__none"))


def test_metric_without_its_filter_is_named(language_model, parameters):
    with pytest.raises(InputError, match="'sayings' has no 'exact_match', only exact_match,none"):
        evaluate_downstream(language_model, parameters(sayings="exact_match"))


def test_faults_show_before_the_work_begins(language_model, parameters, monkeypatch):
    import lm_eval

    limits = []
    evaluate = lm_eval.evaluate

    def noting(*args, **options):
        limits.append(options["limit"])
        return evaluate(*args, **options)

    monkeypatch.setattr(lm_eval, "evaluate", noting)
    with pytest.raises(InputError):
        evaluate_downstream(language_model, parameters(colours="acc__none", sayings="acc__none"))
    assert limits == [1, 1]


def test_task_whose_answers_do_not_fit_into_the_context_is_named(language_model, parameters):
    with pytest.raises(InputError, match=r"'no_room' cannot run .*generate \(256\).*\(256\)"):
        evaluate_downstream(language_model, parameters(no_room="exact_match__none"))


def test_task_with_too_few_examples_is_named(language_model, parameters):
    with pytest.raises(InputError, match=r"'no_examples' cannot run .*larger than population"):
        evaluate_downstream(language_model, parameters(no_examples="exact_match__none"))


@pytest.mark.usefixtures("own_tasks_only")
def test_group_without_a_value_of_its_own_is_named(language_model, parameters):
    with pytest.raises(
        InputError, match=r"'loose' has no 'acc,none', nor any other; name its tasks$"
    ):
        evaluate_downstream(language_model, parameters(loose="acc__none"))


@pytest.mark.usefixtures("own_tasks_only")
def test_group_is_the_mean_over_its_questions(language_model, parameters):
    asked = parameters(
        mixed="acc__none", colours="acc__none", colours_two_shot="acc__none", limit=10
    )
    table = evaluate_downstream(language_model, asked)
    group, one, other = table["value"]
    assert group == pytest.approx((one + other) / 2)
    assert table["n_questions"].tolist() == [20, 10, 10]
    assert table["n_few_shot"].isna().tolist() == [True, False, False]


PUBLISHED = {
    "allenai/ai2_arc": {
        "question": "What is warm?",
        "choices": {"text": ["ice", "the sun"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "cais/mmlu": {"question": "What is 2 + 2?", "choices": ["1", "2", "3", "4"], "answer": 3},
    "truthfulqa/truthful_qa": {
        "question": "Is it so?",
        "mc1_targets": {"choices": ["No", "Yes"], "labels": [1, 0]},
    },
    "mandarjoshi/trivia_qa": {"question": "Who", "answer": {"aliases": ["She", "Her"]}},
    "openai/gsm8k": {"question": "What is 2 + 2?", "answer": "2 + 2 = 4\n#### 4"},
}
"""A row of each published data set, in its own form."""


@pytest.mark.slow
def test_shipped_tasks_give_the_metrics_that_are_asked_for(root, monkeypatch):
    """The harness's own descriptions of the published tasks, with few questions."""
    import datasets

    def load_dataset(path, name=None, **options):
        rows = datasets.Dataset.from_list([PUBLISHED[path]] * 8)
        splits = ("train", "validation", "test", "dev")
        return datasets.DatasetDict({split: rows.select(range(8)) for split in splits})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    text = (root / "conf" / "real_world" / "parameters.yml").read_text(encoding="utf-8")
    shipped = yaml.safe_load(text)["downstream"]
    model = small_llama(
        [row["question"] for row in QUESTIONS],
        SmallLlamaParameters(
            vocabulary_size=300,
            hidden_size=8,
            intermediate_size=8,
            layers=1,
            heads=2,
            context_length=1024,
            initializer_range=0.02,
            seed=1,
        ),
    )
    table = evaluate_downstream(model, DownstreamParameters(**shipped | {"limit": 2}))
    assert dict(zip(table["task"], table["metric"], strict=True)) == shipped["tasks"]
    found = table.set_index("task")
    assert found["value"].between(0, 1).all()
    assert found["n_few_shot"].to_dict() == {
        "arc_challenge": 0,
        "mmlu": 0,
        "truthfulqa_mc1": 0,
        "triviaqa": 0,
        "gsm8k": 5,
    }
    assert found.loc["mmlu", "n_questions"] == 57 * 2
