"""Every shipped environment: its parameters are valid, and its methods are those of the paper."""

import copy
from functools import cache
from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader

from closer_look.evaluation.attacks import ATTACKS, find_attack
from closer_look.parameters.attacks import AttackParameters
from closer_look.parameters.groups import GROUPS, RUNTIME
from closer_look.parameters.methods import MethodParameters, settings_of
from closer_look.parameters.tuning import spaces_table
from closer_look.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = sorted(
    path.parent.name
    for path in ROOT.glob("conf/*/parameters.yml")
    if path.parent.name not in ("base", "local")
)
PAPER = {
    "ga_gd": ("gradient_ascent", "gradient_descent"),
    "ga_kl": ("gradient_ascent", "kl"),
    "npo_gd": ("npo", "gradient_descent"),
    "npo_kl": ("npo", "kl"),
    "dpo_gd": ("dpo", "gradient_descent"),
    "dpo_kl": ("dpo", "kl"),
    "idk_gd": ("idk", "gradient_descent"),
    "idk_kl": ("idk", "kl"),
    "me_gd": ("maximum_entropy", "gradient_descent"),
    "idk_ap": ("idk", "answer_preservation"),
    "llmu": ("llmu", "kl"),
}


@cache
def loaded(env):
    return OmegaConfigLoader(str(ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)["parameters"]


def load(env):
    """The parameters of an environment."""
    return copy.deepcopy(loaded(env))


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_parameters_are_valid(env):
    parameters = load(env)
    methods, attacks = parameters.pop("methods"), parameters.pop("attacks")
    for group in parameters.keys() - {*RUNTIME}:
        GROUPS[group].model_validate(parameters[group])
    for method in methods.values():
        MethodParameters.model_validate(method)
    for attack in map(AttackParameters.model_validate, attacks.values()):
        find_attack(attack.attack, ATTACKS).check(attack.hyperparameters)
    assert set(parameters["experiment"]["methods"]) <= set(methods)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_methods_are_the_papers(env):
    methods = load(env)["methods"]
    losses = {
        key: (methods[key]["forget"]["loss"], methods[key]["retain"]["loss"]) for key in PAPER
    }
    assert losses == PAPER


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_method_goes_with_the_settings_of_every_environment(env):
    parameters = load(env)
    unlearning = GROUPS["unlearning"].model_validate(parameters["unlearning"])
    for values in parameters["methods"].values():
        method = MethodParameters.model_validate(values)
        assert settings_of(method, unlearning).epochs == values.get("epochs", unlearning.epochs)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_search_space_of_every_method_goes_with_every_environment(env):
    parameters = load(env)
    methods = map(MethodParameters.model_validate, parameters["methods"].values())
    trained = {method.label: method for method in methods if method.forget}
    groups = {
        name: GROUPS[name].model_validate(parameters[name]) for name in ("unlearning", "tuning")
    }
    table = spaces_table(trained, **groups)
    assert set(table["method"]) == set(trained)


@pytest.mark.parametrize(
    ("env", "method", "weight", "learning_rate", "length"),
    [
        ("tofu", "me_gd", 1.0, None, 500),
        ("tofu", "me_gd_light", 0.1, None, 500),
        ("real_world", "me_gd", 0.5, 5e-6, 300),
    ],
)
def test_maximum_entropy_has_its_published_weight_and_scale(
    env, method, weight, learning_rate, length
):
    chosen = MethodParameters.model_validate(load(env)["methods"][method])
    assert (chosen.forget.weight, chosen.retain.weight) == (weight, 1.0)
    assert chosen.learning_rate == learning_rate
    assert (chosen.forget.padded_length, chosen.forget.positions) == (length, "question_and_answer")


@pytest.mark.parametrize(("env", "length"), [("tofu", 500), ("real_world", 300)])
@pytest.mark.parametrize("method", [key for key, losses in PAPER.items() if losses[1] == "kl"])
def test_kl_has_its_published_scale(env, length, method):
    retain = MethodParameters.model_validate(load(env)["methods"][method]).retain
    assert (retain.padded_length, retain.positions) == (length, "question_and_answer")


@pytest.mark.parametrize("env", ["tofu", "real_world"])
def test_training_has_its_published_settings(env):
    parameters = load(env)
    unlearning = GROUPS["unlearning"].model_validate(parameters["unlearning"])
    assert (
        unlearning.model_dump()
        | {
            "learning_rate": 1e-5,
            "epochs": 5,
            "batch_size": 32,
            "warmup_epochs": 1,
            "weight_decay": 0.01,
            "lora": None,
            "seed": 1001,
        }
        == unlearning.model_dump()
    )
    assert parameters["forget_set"]["pairing"] == "fixed"
    assert parameters["generation"]["max_length"] == 200
    assert parameters["forget_set"]["evaluation_rows"] == {"tofu": 300, "real_world": 400}[env]


def test_lora_has_its_published_settings():
    lora = (
        GROUPS["unlearning"]
        .model_validate({"learning_rate": 1, "epochs": 2, "batch_size": 1, "seed": 1, "lora": {}})
        .lora
    )
    assert (lora.rank, lora.alpha, lora.dropout) == (8, 32, 0.05)
    assert lora.target_modules == "all-linear"
