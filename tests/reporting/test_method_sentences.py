"""What the report says of a method: one sentence for each thing that its parameters hold."""

from typing import get_args

import pytest
import yaml

from closer_look.parameters.methods import Combination, MethodParameters
from closer_look.parameters.training import Optimiser
from closer_look.reporting.method_sentences import COMBINATIONS, OPTIMISERS, describe_method

ME, GD = {"loss": "maximum_entropy", "weight": 0.1}, {"loss": "gradient_descent"}


def described(**parameters):
    return describe_method(MethodParameters(label="M", **parameters))


def test_two_losses_with_their_weights():
    assert described(forget=ME, retain=GD) == [
        "On what is to be forgotten: make every next word equally likely, as if the answer had "
        "never been seen (weight 0.1).",
        "On the rest: go on learning the true answer.",
    ]


def test_no_retain_loss():
    assert described(forget={"loss": "ce_u"})[1:] == ["It reads no row to retain."]


def test_an_instruction_is_quoted():
    assert described(instruction="Be silent.") == [
        "It trains nothing; its prompt asks the model: “Be silent.”"
    ]
    assert described(instruction="Forget {subjects}.")[1:] == [
        "There {subjects} stands for the names of what is to be forgotten."
    ]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"combination": {"kind": "gradient_surgery"}},
            "Where the two gradients conflict, the forget gradient loses what works against the "
            "retain gradient.",
        ),
        (
            {
                "combination": {
                    **{"kind": "primal_dual", "retain_bound": 0.3},
                    **{"step_size": 5.0, "warmup_epochs": 5},
                }
            },
            "The weight of the retain loss grows while that loss is above 0.3, and falls while it "
            "is below.",
        ),
        (
            {"optimiser": "dual_optim"},
            "Its optimiser is AdamW with moments of its own for each of the two losses.",
        ),
        (
            {"epochs": 10, "learning_rate": 2e-5},
            "In place of the run's own: learning rate 2e-05, epochs 10.",
        ),
        (
            {"trainable": ["down_proj", "up_proj"]},
            "Only weights whose names match down_proj or up_proj were trained.",
        ),
    ],
)
def test_what_else_is_its_own(parameters, said):
    assert described(forget=ME, retain=GD, **parameters)[2:] == [said]


def test_every_combination_and_optimiser_has_words():
    combinations = get_args(get_args(Combination)[0])
    kinds = [get_args(of.model_fields["kind"].annotation)[0] for of in combinations]
    assert list(COMBINATIONS) == kinds
    assert list(OPTIMISERS) == [*get_args(Optimiser)]


def test_a_task_vector_says_how_much_is_subtracted():
    said = described(forget=GD, task_vector_scale=1.5)
    assert said[1:] == ["It reads no row to retain.", "What was learned is subtracted 1.5 times."]


def test_alternates_are_counted():
    said = described(forget={"loss": "altpo", "beta": 0.1}, retain=GD, alternates={"per_row": 5})
    assert said[2:] == [
        "The model wrote 5 other answers to each question to forget, at temperature 1."
    ]


def test_hidden_states_are_placed():
    losses = {"forget": {"loss": "rmu"}, "retain": {"loss": "rmu"}}
    assert described(**losses)[-1].endswith("read behind a layer at 7/32 of its height.")
    assert described(**losses, activations={"layer": 3})[-1].endswith("read behind layer 3.")


def test_every_shipped_method_has_its_sentences(root):
    for path in (root / "conf" / "base" / "parameters_methods").glob("*.yml"):
        (method,) = yaml.safe_load(path.read_text(encoding="utf-8"))["methods"].values()
        said = describe_method(MethodParameters.model_validate(method))
        assert 1 < len(said) <= 4, path.name
        assert all(sentence[-1] in ".”" for sentence in said), path.name
