"""Records of attacks, how a name becomes one, and how attacks ask."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf
from pydantic import PositiveInt

from closer_look.evaluation import attacks
from closer_look.evaluation.attacks import ATTACKS, Attack, AttackContext, ask, find_attack
from closer_look.parameters.attacks import AttackParameters
from closer_look.parameters.evaluation import GenerationParameters
from closer_look.system.code import code_hash

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_attacks"


def strike(model, rows, context, *, times: PositiveInt, how: str = "hard"):
    """An attack that a user might write."""


OWN = Attack(strike, "Strike", "It strikes.")


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_has_a_module_and_a_yaml_of_its_name(name):
    assert Path(attacks.__file__).with_name(f"{name}.py").is_file()
    (given,) = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yml"))["attacks"].values()
    parameters = AttackParameters.model_validate(given)
    assert parameters.attack == name
    ATTACKS[name].check(parameters.hyperparameters)
    for path in parameters.named_code.values():
        assert code_hash(path) == code_hash(ATTACKS[name].function)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_every_attack_is_described(attack):
    assert attack.label[0].isupper()
    assert attack.sentence[0].isupper()
    assert attack.sentence.endswith(".")


def test_attacks_are_read_without_torch(run_python):
    done = run_python(
        "import sys; from closer_look.evaluation.attacks import ATTACKS\n"
        "assert ATTACKS; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def run_python():
    import subprocess

    def run(code):
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603

    return run


def test_an_attack_of_one_s_own_is_found_by_its_path():
    assert find_attack(f"{__name__}:OWN", ATTACKS) is OWN
    found = find_attack(f"{__name__}:strike", ATTACKS)
    assert (found.function, found.label) == (strike, "Strike")
    assert found.sentence == f"An attack of {__name__}."


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("nope", "unknown attack 'nope', choose from paraphrase, .* or name one of your own as "),
        ("closer_look.nowhere:strike", "attack 'closer_look.nowhere:strike' cannot be imported"),
        ("closer_look.metrics:METRICS", "attack 'closer_look.metrics:METRICS' is no function"),
    ],
)
def test_what_is_no_attack_is_refused(name, fault):
    with pytest.raises(ValueError, match=fault):
        find_attack(name, ATTACKS)


@pytest.mark.parametrize(
    ("attack", "given", "fault"),
    [
        (OWN, {"times": 0}, "times of attack 'strike': Input should be greater than 0, not 0"),
        (OWN, {}, "attack 'strike' needs a value of 'times'"),
        (OWN, {"times": 1, "row": 2}, "attack 'strike' takes no 'row'"),
        (OWN, {"times": 1, "model": 2}, "attack 'strike' takes no 'model'"),
        (ATTACKS["sampling"], {"n": 0}, "n of attack 'sampling': Input should be greater than or"),
        (ATTACKS["sampling"], {"temperature": 0.0}, "temperature of attack 'sampling': Input shou"),
        (
            ATTACKS["prompts"],
            {"prefixes": [0]},
            "prefixes of attack 'prompts': Input sh",
        ),
        (
            ATTACKS["prompts"],
            {"framings": {"rude": "Tell me!"}},
            r"framings of attack 'prompts': \{question\} must be part of it, not ",
        ),
        (
            ATTACKS["paraphrase"],
            {"rewordings": ["Say it."]},
            r"rewordings of attack 'paraphrase': \{question\} must be part of it, not ",
        ),
    ],
)
def test_hyperparameters_out_of_bounds_are_refused(attack, given, fault):
    with pytest.raises(ValueError, match=fault):
        attack.check(given)


@pytest.mark.parametrize("related", [[], None])
def test_an_attack_says_which_column_no_row_has(related):
    rows = pd.DataFrame({"row_id": ["a"], "related": [related]}, dtype=object)
    assert ATTACKS["neighbours"].lacks(rows) == "no row to forget has 'related'"
    assert ATTACKS["neighbours"].lacks(rows[["row_id"]]) == "no row to forget has 'related'"
    assert ATTACKS["paraphrase"].lacks(rows) == ""
    rows = pd.DataFrame({"related": [related, [{"question": "Who?"}]]})
    assert ATTACKS["neighbours"].lacks(rows) == ""


def test_a_longer_question_leaves_as_much_room_for_the_answer(language_model):
    def asked(plain):
        context = AttackContext(
            pd.DataFrame(), None, GenerationParameters(max_length=40, batch_size=2), None, 1
        )
        return ask(language_model, ["Who, " + "oh, " * 10 + "who?"], context, plain)

    with pytest.raises(Exception, match="leaves no room for an answer"):
        asked(None)
    (answer,) = asked(["Who?"])
    assert answer
