"""Search spaces: each fault of one is a line before anything is trained."""

import pytest

from closer_look.errors import InputError
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.space import Dimension
from closer_look.parameters.training import UnlearningParameters
from closer_look.parameters.tuning import (
    TuningParameters,
    own_values,
    search_space,
    spaces_table,
)

NPO = {"label": "NPO+GD", "forget": {"loss": "npo", "beta": 0.1}}
NPO |= {"retain": {"loss": "gradient_descent"}}
BETA = {"low": 0.05, "high": 0.5, "log": True}
SHARED = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
SHARED |= {"epochs": {"low": 2, "high": 8}}


@pytest.fixture
def unlearning():
    return UnlearningParameters(learning_rate=1e-3, epochs=5, batch_size=4, seed=1)


def method(**space):
    return MethodParameters.model_validate(NPO | {"space": space})


def tuning(**changes):
    return TuningParameters.model_validate({"seed": 1, "space": SHARED} | changes)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"low": 1, "high": 1}, "space of one point"),
        ({"choices": [1, 1]}, "space of one point"),
        ({"choices": ["x"]}, "space of one point"),
        ({"low": 2, "high": 1}, "low 2 is above high 1"),
        ({"low": 0.0, "high": 1.0, "log": True}, "low must be above 0, not 0.0"),
        ({"low": 1}, "give either low and high, or choices"),
        ({"low": 1, "high": 2, "choices": [1, 2]}, "give either low and high, or choices"),
        ({"choices": [1, 2], "log": True}, "give either low and high, or choices"),
    ],
)
def test_what_is_no_space_is_refused(given, fault):
    with pytest.raises(ValueError, match=fault):
        Dimension.model_validate(given)


def test_ends_and_what_lies_between_stand_for_a_space():
    assert Dimension(low=2, high=8).points == (2, 4, 8)
    assert Dimension(low=2, high=8).is_whole
    assert not Dimension(low=2.0, high=8).is_whole
    assert Dimension(choices=("a", "b")).points == ("a", "b")


@pytest.mark.parametrize(
    ("name", "space", "fault"),
    [
        ("forget.betta", BETA, "space.forget.betta: loss 'npo' takes no 'betta'"),
        ("learnin_rate", BETA, "space.learnin_rate: learnin_rate: Extra inputs"),
        ("combination.step_size", BETA, "the method has no 'combination'"),
        ("epochs", {"low": 2.0, "high": 8.0}, "space.epochs: epochs: .*integer"),
        ("retain.weight", {"low": -1.0, "high": 1.0}, "space.retain.weight: .*greater than"),
    ],
)
def test_space_of_what_a_method_does_not_take_is_refused(name, space, fault):
    with pytest.raises(ValueError, match=fault):
        method(**{name: space})


def test_method_that_trains_nothing_has_no_space():
    with pytest.raises(ValueError, match="an instruction trains nothing: remove space"):
        MethodParameters.model_validate(
            {"label": "X", "instruction": "No.", "space": {"epochs": {"low": 1, "high": 2}}}
        )


def test_methods_have_but_two_parameters_in_common():
    with pytest.raises(ValueError, match=r"forget\.beta: all methods have learning_rate and epo"):
        tuning(space={"forget.beta": BETA})


def test_space_of_a_method_adds_to_the_shared_one_and_replaces_what_it_names(unlearning):
    own = {"epochs": {"low": 4, "high": 6}, "forget.beta": BETA}
    space = search_space(method(**own), unlearning, tuning())
    assert {name: str(one) for name, one in space.items()} == {
        "learning_rate": "0.0001 to 0.01",
        "epochs": "4 to 6",
        "forget.beta": "0.05 to 0.5",
    }
    values = own_values(method(**own), unlearning, space)
    assert values == {"learning_rate": 1e-3, "epochs": 5, "forget.beta": 0.1}


@pytest.mark.parametrize(
    ("space", "fault"),
    [
        ({"forget.beta": {"low": 0.2, "high": 0.5}}, "0.2 to 0.5 leaves out 0.1"),
        ({"epochs": {"low": 1, "high": 8}}, "epochs: at 1, warmup_epochs 1.0 must be below"),
        ({"stop_when": {"low": -9.0, "high": 0.0}}, "stop_when has no value of its own"),
    ],
)
def test_space_that_does_not_go_with_the_methods_settings_is_refused(unlearning, space, fault):
    with pytest.raises(InputError, match=f"search space of NPO.GD: .*{fault}"):
        spaces_table({"npo_gd": method(**space)}, unlearning, tuning())


def test_whole_numbers_leave_out_a_fraction(unlearning):
    own = NPO | {"retain": {"loss": "gradient_descent", "weight": 0.5}}
    space = {"retain.weight": {"low": 0, "high": 2}}
    halved = MethodParameters.model_validate(own | {"space": space})
    with pytest.raises(InputError, match=r"0 to 2 leaves out 0\.5, .* such as 0, leave out fract"):
        search_space(halved, unlearning, tuning())


def test_what_is_made_before_the_first_trial_cannot_be_tuned(unlearning):
    altpo = MethodParameters.model_validate(
        {
            "label": "AltPO",
            "forget": {"loss": "altpo"},
            "alternates": {"per_row": 2},
            "space": {"alternates.temperature": {"low": 0.5, "high": 2.0}},
        }
    )
    with pytest.raises(InputError, match=r"AltPO: alternates\.temperature cannot be tuned"):
        search_space(altpo, unlearning, tuning())


def test_values_replace_those_of_a_method():
    changed = method(**{"forget.beta": BETA}).with_values({"forget.beta": 0.3, "epochs": 7})
    assert changed.forget.hyperparameters == {"beta": 0.3}
    assert (changed.epochs, changed.space) == (7, {})
