"""What a method asks of the model is checked before anything is trained."""

import copy

import pytest

from closer_look.data.questions import name_subjects
from closer_look.errors import InputError
from closer_look.models.instruction import instruct, instruction_length
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import LoraParameters, UnlearningParameters
from closer_look.training.readiness import check_methods
from closer_look.training.unlearning import trainable_only

UNLEARNING = UnlearningParameters(learning_rate=1e-3, epochs=2, batch_size=4, seed=1)
PLAIN = {"forget": {"loss": "gradient_ascent"}, "retain": {"loss": "gradient_descent"}}
RMU = {"forget": {"loss": "rmu"}, "retain": {"loss": "rmu"}}
GUARD = {"instruction": "Say nothing of {subjects}."}


@pytest.fixture
def questions(make_questions):
    table = make_questions(("forget", 1, 2), ("retain", 0, 2))
    table["subject"] = ["Ada", "Bo", None, None]
    return table.assign(paraphrased_question=None, paraphrased_answer=None)


@pytest.fixture
def check(language_model, questions):
    def check(values, unlearning=UNLEARNING, model=language_model, rows=questions, max_length=60):
        method = MethodParameters.model_validate({"label": "X"} | values)
        check_methods(model, {"mine": method}, unlearning, rows, max_length)

    return check


@pytest.fixture
def refused(check):
    """The message with which a method is refused."""

    def refused(values, **options):
        with pytest.raises(InputError) as caught:
            check(values, **options)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith("parameter methods.mine: ")
        return message.removeprefix("parameter methods.mine: ")

    return refused


def test_shipped_methods_pass(language_model, questions, shipped_methods):
    methods = {
        name: MethodParameters.model_validate(values) for name, values in shipped_methods.items()
    }
    check_methods(language_model, methods, UNLEARNING, questions, 60)


def test_layer_that_does_not_exist_is_refused(check, refused):
    check(RMU | {"activations": {"layer": 0}})
    message = refused(RMU | {"activations": {"layer": 1}})
    assert message == "LlamaForCausalLM has no layer 1: its layers are numbered from 0 to 0"
    check(PLAIN | {"activations": {"layer": 1}})  # which reads none


def test_pattern_that_matches_no_weight_is_refused(check, refused, language_model):
    check(PLAIN | {"trainable": [r".*mlp.*"]})
    message = refused(PLAIN | {"trainable": [r".*mlp.*", "mlp"]})
    assert message == (
        "trainable: 'mlp' matches no weight of LlamaForCausalLM, such as "
        "model.embed_tokens.weight; it must match the full name"
    )
    assert all(weight.requires_grad for weight in language_model.model.parameters())


def test_weights_named_together_with_adapters_are_refused(refused):
    unlearning = UNLEARNING.model_copy(update={"lora": LoraParameters()})
    message = refused(PLAIN | {"trainable": [".*"]}, unlearning=unlearning)
    assert message.startswith("trainable: with LoRA, unlearning.lora.target_modules says what is")


def test_epochs_of_its_own_that_are_below_the_warm_up_are_refused(refused):
    message = refused(PLAIN | {"epochs": 1})
    assert message == "warmup_epochs 1.0 must be below epochs 1"


def test_optimiser_of_the_run_that_does_not_go_with_surgery_is_refused(refused):
    unlearning = UNLEARNING.model_copy(update={"optimiser": "dual_optim"})
    own = PLAIN | {"combination": {"kind": "gradient_surgery"}}
    assert refused(own, unlearning=unlearning).startswith("dual_optim keeps the gradients apart")


def test_instruction_of_rows_without_a_subject_is_refused(refused, questions):
    rows = questions.assign(subject=["Ada", None, None, None])
    assert refused(GUARD, rows=rows).startswith("row 'forget-1-2': it names no subject, on which")


def test_instruction_that_the_template_cannot_take_is_refused(refused, language_model):
    tokenizer = copy.deepcopy(language_model.tokenizer)
    tokenizer.chat_template = "{{ messages[-1]['content'] }}\nAnswer:"
    message = refused(GUARD, model=LanguageModel(language_model.model, tokenizer))
    assert ": its chat template takes no system message" in message


def test_instruction_that_the_context_cannot_hold_is_refused(
    check, refused, language_model, questions
):
    """The context holds 256 tokens."""
    instructed = instruct(language_model, name_subjects(GUARD["instruction"], questions))
    needed = instruction_length(instructed.tokenizer)
    assert needed > 5
    check(GUARD, max_length=256 - needed)
    assert refused(GUARD, max_length=256 - needed + 1) == (
        f"the instruction takes {needed} tokens beside the {256 - needed + 1} of "
        f"generation.max_length, the model's context holds 256"
    )


def test_row_that_fits_no_more_beside_the_instruction_is_refused(refused):
    """Though its answers may be short."""
    message = refused({"instruction": "Never. " * 60}, max_length=10)
    assert message.startswith("row 'forget-1-1': question and answer take ")
    assert message.endswith("tokens, the model's context holds 256")


@pytest.mark.usefixtures("logits_of_the_text")
@pytest.mark.parametrize(
    "losses", [{"forget": {"loss": "undial"}}, PLAIN | {"retain": {"loss": "kl"}}]
)
def test_logits_that_do_not_follow_from_the_states_are_refused(check, losses):
    with pytest.raises(InputError, match="the logits of LlamaForCausalLM do not follow from its"):
        check(losses)
    check(PLAIN)
    check(RMU)


def test_only_the_weights_that_are_named_are_trained(language_model):
    model = copy.deepcopy(language_model.model)
    model.lm_head.weight.requires_grad_(True)
    with trainable_only(model, (r".*\.q_proj\.weight", r"model\.norm\..*")):
        trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained == ["model.layers.0.self_attn.q_proj.weight", "model.norm.weight"]
    assert all(weight.requires_grad for weight in model.parameters())
    model.model.norm.weight.requires_grad_(False)
    with trainable_only(model, None):
        pass
    with trainable_only(model, (r".*\.q_proj\.weight",)):
        pass
    assert not model.model.norm.weight.requires_grad  # as it was


def test_a_training_of_some_weights_leaves_the_others(unlearn, questions, language_model):
    own = {"trainable": [r".*\.up_proj\.weight"]}
    model, _ = unlearn(questions, "gradient_ascent", "gradient_descent", own=own)
    before = language_model.model.state_dict()
    moved = [n for n, w in model.model.state_dict().items() if not w.cpu().equal(before[n])]
    assert moved == ["model.layers.0.mlp.up_proj.weight"]
