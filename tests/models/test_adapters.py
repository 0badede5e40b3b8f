"""Adapters are on the layers that the parameters name, on all of "all-linear", or refused."""

import pytest
import torch

from closer_look.errors import InputError
from closer_look.models.adapters import with_adapter
from closer_look.models.readiness import check_adapters
from closer_look.parameters.training import LoraParameters
from closer_look.reporting.sentences import describe_unlearning

LORA = LoraParameters(rank=2, alpha=4, dropout=0)
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
LAYERS = ATTENTION | {"gate_proj", "up_proj", "down_proj"}
MIXTURES = ["mixtral", "qwen3_moe", "gpt_oss", "granitemoe", "jetmoe", "llama4_text"]


def adapted(model):
    """Names of the weights of the model itself that have adapters."""
    names = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if "lora_" in name}
    return {name.removeprefix("base_model.model.").replace(".base_layer", "") for name in names}


@pytest.mark.parametrize("family", MIXTURES)
def test_all_linear_means_the_experts_too(make_family, family):
    language_model = make_family(family)
    before = {name: weight.clone() for name, weight in language_model.model.state_dict().items()}
    check_adapters(language_model, LORA)  # and takes them off again
    after = language_model.model.state_dict()
    assert after.keys() == before.keys()
    assert all(after[name].equal(weight) for name, weight in before.items())
    assert all(weight.requires_grad for weight in language_model.model.parameters())

    holders = {"input_linear", "output_linear"} if family == "jetmoe" else {"experts"}
    model = with_adapter(language_model, LORA).model
    assert {name.rpartition(".")[2] for name in adapted(model)} >= holders
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained == [name for name, _ in model.named_parameters() if "lora_" in name]


def test_all_linear_means_the_layers_that_read_text(make_family):
    language_model = check_adapters(make_family("gemma3"), LORA)
    found = adapted(with_adapter(language_model, LORA).model)
    assert {name.rpartition(".")[2] for name in found} == LAYERS
    assert all(name.startswith("model.language_model.layers.") for name in found)


def test_experts_are_left_alone_where_other_layers_are_named(make_family):
    lora = LoraParameters(target_modules=["q_proj", "v_proj"])  # with dropout
    language_model = check_adapters(make_family("mixtral"), lora)
    found = {name.rpartition(".")[2] for name in adapted(with_adapter(language_model, lora).model)}
    assert found == {"q_proj", "v_proj"}


def test_dropout_on_experts_is_refused(make_family):
    with pytest.raises(InputError, match=r"^parameter unlearning\.lora\.dropout: .* MixtralFor"):
        with_adapter(make_family("mixtral"), LoraParameters())


@pytest.mark.parametrize(
    ("family", "fault"),
    [
        ("glm4_moe", r"'all-linear' does not reach model\.layers\.0\.mlp\.gate_proj of Glm4Moe"),
        ("jamba", r"JambaForCausalLM makes no use of adapters on .*_proj; name others"),
        ("mamba", "Module 'out_proj' is incompatible with Mamba-based models"),
    ],
)
def test_layers_that_adapters_do_not_reach_are_refused(make_family, family, fault):
    with pytest.raises(
        InputError, match=rf"^parameter unlearning\.lora\.target_modules: .*{fault}"
    ):
        check_adapters(make_family(family), LORA)


def test_a_model_that_fails_with_adapters_is_refused(make_family):
    lora = LoraParameters(target_modules=["router", "q_proj"])  # whose output is no tensor
    with pytest.raises(InputError, match=r"Llama4ForCausalLM fails with adapters on these layers"):
        check_adapters(make_family("llama4_text"), lora)


def test_every_adapter_learns_on_experts(make_family, make_questions, unlearn_first_task):
    language_model = make_family("gpt_oss")
    questions = make_questions(("forget", 1, 4), ("retain", 0, 4))
    unlearned, _ = unlearn_first_task(
        language_model, questions, "npo", "kl", lora=LORA, learning_rate=1e-2
    )
    learned = {n: w for n, w in unlearned.model.named_parameters() if "lora_B" in n}
    assert len([name for name in learned if "experts" in name]) == 2 * 2  # layers, weights
    assert all(torch.count_nonzero(weight) for weight in learned.values())


@pytest.mark.parametrize(
    ("target_modules", "said", "layers"),
    [
        ("all-linear", "on all linear layers and left the model's own weights unchanged", LAYERS),
        (["q_proj", "v_proj"], "on the layers q_proj and v_proj and left", {"q_proj", "v_proj"}),
    ],
)
def test_the_report_says_what_is_trained(
    make_family, make_questions, unlearn_first_task, target_modules, said, layers
):
    lora = LORA.model_copy(update={"target_modules": target_modules})
    language_model = make_family("llama")
    before = {name: weight.clone() for name, weight in language_model.model.named_parameters()}
    questions = make_questions(("forget", 1, 2), ("retain", 0, 2))
    model = unlearn_first_task(language_model, questions, "idk", "kl", lora=lora)[0].model
    assert {name.rpartition(".")[2] for name in adapted(model)} == layers
    own = model.unload().named_parameters()
    assert all(weight.equal(before[name]) for name, weight in own)
    assert said in describe_unlearning({"unlearning": {"lora": lora.model_dump()}})


def test_the_report_says_nothing_where_all_weights_are_trained(
    make_family, make_questions, unlearn_first_task
):
    language_model = make_family("llama")
    before = {name: weight.clone() for name, weight in language_model.model.named_parameters()}
    questions = make_questions(("forget", 1, 2), ("retain", 0, 2))
    model = unlearn_first_task(language_model, questions, "idk", "kl")[0].model
    assert not [name for name, weight in model.named_parameters() if weight.equal(before[name])]
    assert describe_unlearning({"unlearning": {}}) == ""
