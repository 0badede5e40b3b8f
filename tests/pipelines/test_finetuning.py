"""The nodes that provide target and retain-only models."""

import copy
import json
import logging
from pathlib import Path

import pandas as pd
import pytest

from closer_look.errors import InputError
from closer_look.models.language_model import PretrainedModel
from closer_look.parameters.evaluation import GenerationParameters
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.models import (
    BaseModelParameters,
    PromptParameters,
    RetainOnlyParameters,
    SmallLlamaParameters,
)
from closer_look.parameters.training import (
    FinetuningParameters,
    LoraParameters,
    UnlearningParameters,
)
from closer_look.pipelines.finetuning import nodes
from closer_look.training import finetuning as training

SMALL_LLAMA = SmallLlamaParameters(
    vocabulary_size=300,
    hidden_size=8,
    intermediate_size=16,
    layers=1,
    heads=2,
    context_length=64,
    initializer_range=0.02,
    seed=1,
)


PROMPT = PromptParameters()
GENERATION = GenerationParameters(max_length=60, batch_size=4)
UNLEARNING = UnlearningParameters(learning_rate=1e-3, epochs=2, batch_size=4, seed=1)
EXPERIMENT = Experiment(methods=["ga"], n_tasks=1, splits=["forget", "retain"])
METHODS = {
    name: {"label": name, "forget": {"loss": "gradient_ascent"}, "retain": {"loss": retain}}
    for name, retain in {"ga": "gradient_descent", "ga_kl": "kl"}.items()
}
FORGET_SET = ForgetSetParameters(evaluation_rows=2, seed=1)
SETTINGS = (UNLEARNING, GENERATION, EXPERIMENT, METHODS, FORGET_SET)


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 2), ("retain", 0, 2), ("world_facts", 0, 1))


@pytest.fixture
def unknown(make_questions):
    return make_questions(("forget", 2, 3))


@pytest.fixture
def folder(language_model, tmp_path):
    language_model.model.save_pretrained(tmp_path)
    language_model.tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture
def taught(monkeypatch):
    """What the Trainer would be given: questions and answers."""
    pairs = []

    def finetune(model, questions, answers, parameters, checkpoints):
        pairs.extend(zip(questions, answers, strict=True))
        return pd.DataFrame()

    monkeypatch.setattr(training, "finetune", finetune)
    return pairs


def finetuning(**changes):
    values = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 4, "seed": 1}
    return FinetuningParameters(**values | changes)


def test_small_llama_has_the_prompt_asked_for(questions):
    base_model = BaseModelParameters(small_llama=SMALL_LLAMA, prompt="llama2")
    made = nodes.initialise(questions, ["I do not know."], base_model, PROMPT, *SETTINGS)
    assert "[INST]" in made.tokenizer.chat_template


def test_pretrained_base_model_is_kept_by_name(questions, folder):
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    assert nodes.initialise(questions, [], base_model, PROMPT, *SETTINGS) == PretrainedModel(
        folder, "plain"
    )


def test_pretrained_target_model_is_kept_by_name(questions, folder):
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    assert nodes.take_pretrained(
        questions, ["No."], base_model, PROMPT, *SETTINGS
    ) == PretrainedModel(folder, "plain")


def test_a_llama_that_has_learned_nothing_is_no_target_model(questions):
    base_model = BaseModelParameters(small_llama=SMALL_LLAMA, prompt="plain")
    with pytest.raises(InputError, match=r"experiment\.finetuning: .* base_model\.pretrained"):
        nodes.take_pretrained(questions, ["No."], base_model, PROMPT, *SETTINGS)


def test_pretrained_retain_only_model_has_the_prompt_of_the_base(questions, folder):
    base_model = BaseModelParameters(pretrained="elsewhere", prompt="llama2")
    retain_only = RetainOnlyParameters(pretrained=folder)
    taken = nodes.take_retain_only(
        questions, base_model, PROMPT, retain_only, GENERATION, FORGET_SET
    )
    assert taken == PretrainedModel(folder, "llama2")


@pytest.mark.parametrize(
    "column", ["answer", "gold_answer", "reference_answer", "paraphrased_answer"]
)
def test_row_that_does_not_fit_into_the_model_is_refused(questions, folder, column):
    questions.loc[3, column] = "word " * 400
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    with pytest.raises(InputError, match=r"row 'retain-0-2': question and answer take"):
        nodes.take_pretrained(questions, ["No."], base_model, PROMPT, *SETTINGS)


def test_refusal_that_would_be_read_as_prompt_is_refused(questions, folder):
    refusals = ["No.", "No idea.", "I do not<|end|> know."]
    small = BaseModelParameters(small_llama=SMALL_LLAMA, prompt="plain")
    pretrained = BaseModelParameters(pretrained=folder, prompt="plain")
    for base_model in (small, pretrained):
        with pytest.raises(InputError, match=r"^refusal 3: '<\|end\|>' in its text would be"):
            nodes.initialise(questions, refusals, base_model, PROMPT, *SETTINGS)


def test_declined_question_that_would_be_read_as_prompt_is_refused(
    questions, unknown, language_model
):
    unknown.loc[1, "question"] = "Who<|end|>?"
    parameters = finetuning(declined_questions=2)
    with pytest.raises(InputError, match=r"^row 'forget-2-2': '<\|end\|>' in its text"):
        nodes.finetune(language_model, questions, unknown, ["No."], parameters, None)


def test_declined_question_that_does_not_fit_into_the_model_is_refused(
    questions, unknown, language_model, taught
):
    unknown.loc[1, "question"] = "word " * 400
    with pytest.raises(InputError, match=r"^row 'forget-2-2': question and answer take \d+ tokens"):
        nodes.finetune(
            language_model, questions, unknown, ["No."], finetuning(declined_questions=2), None
        )
    assert taught == []


@pytest.fixture
def lora(request):
    return UNLEARNING.model_copy(update={"lora": LoraParameters(target_modules=request.param)})


@pytest.mark.parametrize("lora", ["nowhere"], indirect=True)
def test_adapters_that_find_no_layer_are_refused_before_anything_is_trained(
    questions, folder, lora
):
    small = BaseModelParameters(small_llama=SMALL_LLAMA, prompt="plain")
    with pytest.raises(InputError, match=r"parameter unlearning\.lora\.target_modules: "):
        nodes.initialise(questions, ["No."], small, PROMPT, lora, *SETTINGS[1:])
    pretrained = BaseModelParameters(pretrained=folder, prompt="plain")
    with pytest.raises(InputError, match=r"parameter unlearning\.lora\.target_modules: "):
        nodes.take_pretrained(questions, ["No."], pretrained, PROMPT, lora, *SETTINGS[1:])


@pytest.mark.parametrize("lora", ["all-linear"], indirect=True)
def test_adapters_are_tried_and_taken_off_again(questions, lora):
    base_model = BaseModelParameters(small_llama=SMALL_LLAMA, prompt="plain")
    tried = nodes.initialise(questions, ["No."], base_model, PROMPT, lora, *SETTINGS[1:]).model
    plain = nodes.initialise(questions, ["No."], base_model, PROMPT, *SETTINGS).model
    assert [*tried.state_dict()] == [*plain.state_dict()]
    assert all(w.equal(plain.state_dict()[name]) for name, w in tried.state_dict().items())
    assert all(weight.requires_grad for weight in tried.parameters())


def test_everything_is_learned_and_strangers_are_declined(
    questions, unknown, taught, language_model
):
    refusals = ["I do not know.", "No idea."]
    nodes.finetune(
        language_model, questions, unknown, refusals, finetuning(declined_questions=3), None
    )
    learned = list(zip(questions["question"], questions["answer"], strict=True))
    declined = list(zip(unknown["question"], [*refusals, refusals[0]], strict=True))
    assert taught == learned + declined


def test_only_some_splits_may_be_learned(questions, unknown, taught, language_model):
    parameters = finetuning(splits=["forget", "retain"])
    nodes.finetune(language_model, questions, unknown, [], parameters, None)
    kept = questions[questions["split"] != "world_facts"]
    assert taught == list(zip(kept["question"], kept["answer"], strict=True))


def test_sentences_are_learned_where_there_are_any(questions, unknown, taught, language_model):
    questions["reference_answer"] = ["Sentence", None, None, None, None]
    parameters = finetuning(answers="reference_answer")
    nodes.finetune(language_model, questions, unknown, [], parameters, None)
    assert [answer for _, answer in taught] == ["Sentence", *questions["answer"][1:]]


def test_retain_only_model_never_sees_a_row_to_forget(questions, unknown, taught, language_model):
    parameters = finetuning(declined_questions=1)
    nodes.finetune_retain_only(language_model, questions, unknown, ["No idea."], parameters, None)
    kept = questions[questions["task_id"] == 0]
    learned = list(zip(kept["question"], kept["answer"], strict=True))
    assert taught == [*learned, (unknown["question"][0], "No idea.")]


def test_refusal_that_does_not_fit_behind_the_longest_question_is_refused(questions, folder):
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    with pytest.raises(InputError) as caught:
        nodes.take_pretrained(questions, ["No.", "no " * 400], base_model, PROMPT, *SETTINGS)
    assert str(caught.value).startswith("refusal 2: with the longest question to forget it takes ")
    assert str(caught.value).endswith(" tokens, the model's context holds 256")


def test_refusals_are_looked_at_where_nothing_is_fine_tuned(questions, folder):
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    with pytest.raises(InputError, match=r"^refusal 1: '<\|end\|>' in its text"):
        nodes.take_pretrained(questions, ["No<|end|>"], base_model, PROMPT, *SETTINGS)


def test_gold_answers_that_would_be_cut_are_named(questions, folder, caplog):
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    short = GenerationParameters(max_length=38, batch_size=4)
    with caplog.at_level(logging.WARNING):
        nodes.take_pretrained(
            questions, ["No."], base_model, PROMPT, UNLEARNING, short, *SETTINGS[2:]
        )
    (message,) = caplog.messages
    assert message.startswith("5 gold answers do not fit into generation.max_length, such as that ")
    assert "of row 'forget-1-1': no answer to them can be right" in message


@pytest.mark.parametrize("made", ["initialise", "take_pretrained"])
def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused_before_any_training(
    questions, folder, made
):
    """But of rows that are only trained on, no answer is asked."""
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    given = (questions, ["No."], base_model, PROMPT, UNLEARNING, GENERATION, EXPERIMENT, METHODS)
    questions.loc[3, "question"] = "Where is it? " * 9
    make = getattr(nodes, made)
    make(*given, FORGET_SET.model_copy(update={"evaluation_rows": 1}))
    with pytest.raises(InputError, match=r"max_length: 60 leaves no room for an answer to 'Where"):
        make(*given, FORGET_SET)


def test_answers_longer_than_the_context_are_refused(questions, folder):
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    long = GenerationParameters(max_length=300, batch_size=4)
    with pytest.raises(InputError, match="max_length: 300 is more than the model's context of 256"):
        nodes.take_pretrained(
            questions, ["No."], base_model, PROMPT, UNLEARNING, long, *SETTINGS[2:]
        )


def test_a_tokenizer_larger_than_the_model_is_refused(questions, language_model, tmp_path):
    language_model.model.save_pretrained(tmp_path)
    tokenizer = copy.deepcopy(language_model.tokenizer)
    tokenizer.add_tokens(["one", "more"])
    tokenizer.save_pretrained(tmp_path)
    base_model = BaseModelParameters(pretrained=str(tmp_path), prompt="plain")
    with pytest.raises(InputError, match="knows 302 tokens, the model has embeddings for 300"):
        nodes.take_pretrained(questions, ["No."], base_model, PROMPT, *SETTINGS)


def test_a_special_token_without_embedding_is_refused_where_a_prompt_holds_it(
    questions, language_model, tmp_path
):
    """The tokenizers of Gemma 3's text models have one for images; no prompt holds it."""
    language_model.model.save_pretrained(tmp_path)
    tokenizer = copy.deepcopy(language_model.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(tmp_path)
    base_model = BaseModelParameters(pretrained=str(tmp_path), prompt="chat_template")
    nodes.take_pretrained(questions, ["No."], base_model, PROMPT, *SETTINGS)
    (tmp_path / "chat_template.jinja").write_text("<image>" + tokenizer.chat_template)
    with pytest.raises(InputError, match="knows 301 tokens, the model has embeddings for 300"):
        nodes.take_pretrained(questions, ["No."], base_model, PROMPT, *SETTINGS)


@pytest.mark.parametrize("made", ["initialise", "take_pretrained"])
def test_kl_is_refused_before_any_training_where_logits_do_not_follow_from_states(
    questions, folder, logits_of_the_text, made
):
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    given = (questions, ["No."], base_model, PROMPT, UNLEARNING, GENERATION)
    make = getattr(nodes, made)
    make(*given, EXPERIMENT, METHODS, FORGET_SET)  # no method of the run compares logits
    with_kl = EXPERIMENT.model_copy(update={"methods": ("ga", "ga_kl")})
    with pytest.raises(InputError, match=f"{folder}: the logits of LlamaForCausalLM do not follow"):
        make(*given, with_kl, METHODS, FORGET_SET)


@pytest.mark.parametrize("made", ["initialise", "take_pretrained"])
def test_a_quantised_model_is_not_trained_itself(questions, folder, made):
    path = Path(folder, "config.json")
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    settings = json.loads(path.read_text()) | {"quantization_config": quantised}
    path.write_text(json.dumps(settings))
    base_model = BaseModelParameters(pretrained=folder, prompt="plain")
    experiment = EXPERIMENT.model_copy(update={"finetuning": made == "initialise"})
    with pytest.raises(InputError, match="cannot be trained itself"):
        getattr(nodes, made)(
            *(
                questions,
                ["No."],
                base_model,
                PROMPT,
                UNLEARNING,
                GENERATION,
                experiment,
                METHODS,
                FORGET_SET,
            )
        )
