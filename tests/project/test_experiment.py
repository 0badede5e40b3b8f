"""The shape of a run, read from whatever configuration the run has."""

import pytest
from kedro.framework.cli.utils import _split_params
from kedro.framework.startup import bootstrap_project

from closer_look.errors import InputError
from closer_look.evaluation.attacks import ATTACKS
from closer_look.project import experiment
from closer_look.project.experiment import load_attacks, load_benchmark, load_experiment

GOOD = {
    "experiment": {"methods": ["me_gd"], "n_tasks": 2, "splits": ["forget", "retain"]},
    "methods": {"me_gd": {"label": "ME+GD"}, "ga_gd": {"label": "GA+GD"}},
}


@pytest.fixture
def configure(monkeypatch):
    """Let the run have these parameters."""

    def configure(**experiment_parameters):
        parameters = GOOD | {"experiment": GOOD["experiment"] | experiment_parameters}
        monkeypatch.setattr(experiment, "_config_loader", {"globals": {}, "parameters": parameters})

    return configure


def test_experiment_is_that_of_the_configuration(configure):
    configure(n_tasks=3)
    assert load_experiment().tasks == ("task_01", "task_02", "task_03")


def test_graph_that_takes_gigabytes_is_refused(configure):
    configure(n_tasks=999)
    assert len(load_experiment().tasks) == 999
    configure(methods=["ga_gd", "me_gd"], n_tasks=708)
    with pytest.raises(InputError) as caught:
        load_experiment()
    assert str(caught.value) == (
        "parameter experiment.n_tasks: 708 tasks of 2 methods make a graph that takes gigabytes; "
        "ask for 707 tasks, or for fewer methods at a time"
    )


def test_seeds_count_as_methods_do(configure):
    configure(seeds=[1, 2], methods=["ga_gd"], n_tasks=708)
    with pytest.raises(InputError) as caught:
        load_experiment()
    assert str(caught.value) == (
        "parameter experiment.n_tasks: 708 tasks of 1 methods with 2 seeds make a graph that takes "
        "gigabytes; ask for 707 tasks, or for fewer methods or seeds at a time"
    )


@pytest.mark.parametrize(
    ("seeds", "fault"),
    [
        ([1001, 1002, 1001], "seeds: seed 1001 is given more than once"),
        ("7 7", "seeds: seed 7 is given more than once"),
        (-1, "seeds.0: Input should be greater than or equal to 0"),
        ([2**32], "seeds.0: Input should be less than 4294967296"),
        ("one", "seeds.0: Input should be a valid integer, unable to parse string as an integer"),
        (1.5, "seeds.0: Input should be a valid integer, unable to parse string as an integer"),
        ([*range(1000)], "seeds: Tuple should have at most 999 items after validation, not 1000"),
    ],
)
def test_seeds_that_are_none_are_refused(configure, seeds, fault):
    configure(seeds=seeds)
    with pytest.raises(InputError) as caught:
        load_experiment()
    assert str(caught.value) == f"parameter experiment.{fault}"


@pytest.mark.parametrize(
    ("seeds", "found"),
    [([1002, 7], (1002, 7)), ("1002 7", (1002, 7)), (7, (7,)), (None, (None,)), ([], (None,))],
)
def test_seeds_may_be_words_or_a_number(configure, seeds, found):
    configure(seeds=seeds)
    assert load_experiment().each_seed == found


def test_all_stands_for_every_method(configure):
    configure(methods="all")
    assert load_experiment().methods == ("ga_gd", "me_gd")


def test_method_that_no_file_describes_is_refused(configure):
    configure(methods=["me_gd", "nope"])
    with pytest.raises(InputError) as caught:
        load_experiment()
    assert str(caught.value) == (
        "parameter experiment.methods: unknown method 'nope', choose from ga_gd, me_gd"
    )


def test_method_that_only_a_runtime_parameter_names_is_refused(configure, monkeypatch):
    configure()
    parameters = experiment._config_loader["parameters"]
    misspelt = parameters["methods"] | {"me_g": {"learning_rate": 1e-4}}
    changed = {"globals": {}, "parameters": parameters | {"methods": misspelt}}
    monkeypatch.setattr(experiment, "_config_loader", changed)
    with pytest.raises(InputError, match="unknown method 'me_g', choose from ga_gd, me_gd"):
        load_experiment()


@pytest.mark.parametrize(
    ("label", "of"), [("GA+GD", "methods.ga_gd"), ("before", "the tables of a run")]
)
def test_a_label_stands_for_one_model(configure, monkeypatch, label, of):
    configure(methods=["ga_gd", "me_gd"])
    methods = GOOD["methods"] | {"me_gd": {"label": label}}
    monkeypatch.setitem(experiment._config_loader["parameters"], "methods", methods)
    with pytest.raises(InputError) as caught:
        load_experiment()
    assert str(caught.value) == (
        f"parameter methods.me_gd.label: '{label}' is the label of {of} already; use another one"
    )


def test_a_model_made_elsewhere_has_a_label_of_its_own(configure, monkeypatch):
    configure()
    elsewhere = {"theirs": {"base_model": "x", "label": "ME+GD"}}
    parameters = experiment._config_loader["parameters"] | {"models": elsewhere}
    monkeypatch.setitem(experiment._config_loader, "parameters", parameters)
    with pytest.raises(InputError, match=r"^parameter models\.theirs\.label: 'ME\+GD' is the"):
        load_experiment()


def test_run_named_in_an_environment_is_refused_too(configure, monkeypatch):
    configure()
    monkeypatch.setitem(experiment._config_loader, "globals", {"run": "../x"})
    with pytest.raises(
        InputError, match=r"^parameter run: '\.\./x' is not a valid name; use letters"
    ):
        load_experiment()


@pytest.mark.parametrize("parameter", ["run", "forget_split"])
@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/b", "a\\b", "", None, ".", "..", ".x", "a b", "a\n"]
)
def test_what_stands_in_paths_is_a_name(parameter, name):
    with pytest.raises(
        InputError, match=rf"^parameter {parameter}: .* is not a valid name; use letters"
    ):
        experiment._check_names({parameter: name})


@pytest.mark.parametrize("method", ["../x", "a.b", "a/b", ""])
def test_methods_have_names_that_stand_in_paths(method):
    with pytest.raises(
        InputError, match=r"^parameter methods: .* is not a valid name; use letters"
    ):
        experiment._check_names({"methods": {method: {}}})


def test_misspelt_group_is_refused(configure, monkeypatch):
    configure()
    parameters = experiment._config_loader["parameters"] | {"unlerning": {"epochs": 3}}
    monkeypatch.setattr(experiment, "_config_loader", {"globals": {}, "parameters": parameters})
    with pytest.raises(InputError, match=r"^unknown parameter 'unlerning', choose from experiment"):
        load_experiment()


def test_method_named_twice_is_refused(configure):
    configure(methods=["me_gd", "me_gd"])
    with pytest.raises(InputError, match=r"^parameter experiment\.methods: 'me_gd' is named more"):
        load_experiment()


def test_misspelt_parameter_is_named_with_its_group(configure):
    configure(n_task=3)
    with pytest.raises(InputError, match=r"^parameter experiment\.n_task: "):
        load_experiment()


def test_without_a_run_the_projects_own_configuration_counts(root, monkeypatch):
    bootstrap_project(root)
    monkeypatch.setattr(experiment, "_config_loader", None)
    monkeypatch.chdir(root / "src")  # a command may start anywhere in the project
    monkeypatch.setenv("KEDRO_ENV", "test")
    assert load_experiment().n_tasks == 2


def test_an_empty_configuration_loader_is_not_taken_for_none(monkeypatch):
    class Loader(dict):
        """Like Kedro's: false in itself, yet it gives parameters."""

        def __missing__(self, key):
            return GOOD

    monkeypatch.setattr(experiment, "_config_loader", Loader())
    assert load_experiment().methods == ("me_gd",)


@pytest.mark.parametrize(
    ("asked", "group"),
    [({"downstream": True}, "downstream"), ({"retain_only": "pretrained"}, "retain_only")],
)
def test_group_that_the_experiment_asks_for_must_be_there(configure, asked, group):
    configure(**asked)
    with pytest.raises(InputError, match=rf"^parameter {group} is missing, but experiment asks"):
        load_experiment()


def test_message_has_nothing_that_a_terminal_obeys(configure, monkeypatch):
    configure()
    loader = dict(experiment._config_loader) | {"globals": {"run": "\x1b[2J" + "x" * 9999}}
    monkeypatch.setattr(experiment, "_config_loader", loader)
    with pytest.raises(InputError) as caught:
        load_experiment()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("written", ["1.10", "007", "1e3", "12"])
def test_a_number_is_no_name_of_a_run(configure, monkeypatch, written):
    """As Kedro reads it, 1.10 and 1.1 would share a folder."""
    configure()
    given = _split_params(None, None, f"run={written}")
    loader = dict(experiment._config_loader) | {"globals": given}
    monkeypatch.setattr(experiment, "_config_loader", loader)
    with pytest.raises(InputError, match=r"^parameter run: [\d.]+ is a number; use a name that"):
        load_experiment()


def test_a_date_is_a_name_of_a_run(configure, monkeypatch):
    configure()
    given = _split_params(None, None, "run=2026-11-27")
    loader = dict(experiment._config_loader) | {"globals": given}
    monkeypatch.setattr(experiment, "_config_loader", loader)
    assert given == {"run": "2026-11-27"}
    assert load_experiment()


@pytest.fixture
def attacks(monkeypatch):
    """Let the run have these attacks, and find the named ones."""

    def attacks(known, *names):
        parameters = GOOD | {"attacks": known}
        monkeypatch.setattr(experiment, "_config_loader", {"globals": {}, "parameters": parameters})
        return load_attacks(names)

    return attacks


SAMPLING = {"attack": "sampling", "n": 3, "temperature": 1.0}


def test_attacks_are_found_by_name_or_all(attacks):
    known = {"draw": SAMPLING, "reword": {"attack": "paraphrase", "rewordings": []}}
    assert attacks(known, "draw") == {"draw": ATTACKS["sampling"]}
    assert attacks(known, "all") == {"draw": ATTACKS["sampling"], "reword": ATTACKS["paraphrase"]}
    assert attacks(known) == {}
    assert [*attacks(known, "draw", "reword")] == ["reword", "draw"]  # as in the project's table


@pytest.mark.parametrize(
    ("known", "name", "fault"),
    [
        (
            {"draw": SAMPLING},
            "nope",
            "parameter experiment.stress: unknown attack 'nope', choose from draw, or 'all'",
        ),
        (
            {"draw": SAMPLING | {"n": 0}},
            "all",
            "parameter attacks.draw: n of attack 'sampling': Input should be greater than or equal "
            "to 1, not 0",
        ),
        (
            {"draw": {"n": 3}},
            "draw",
            "parameter attacks.draw.attack: Field required",
        ),
        (
            {"draw": {"attack": "sampling", "n": 3}},
            "draw",
            "parameter attacks.draw: attack 'sampling' needs a value of 'temperature'",
        ),
        (
            {"plain": SAMPLING},
            "plain",
            "parameter attacks: 'plain' means no attack; use another name",
        ),
    ],
)
def test_attacks_at_fault_are_refused(attacks, known, name, fault):
    with pytest.raises(InputError) as caught:
        attacks(known, name)
    assert str(caught.value) == fault


def test_an_attack_that_no_module_holds_is_refused(attacks):
    with pytest.raises(InputError, match=r"parameter attacks\.draw: unknown attack 'drow', choose"):
        attacks({"draw": {"attack": "drow"}}, "draw")


def test_attacks_on_the_command_line_are_words(configure):
    configure(stress="paraphrase sampling")
    assert load_experiment().stress == ("paraphrase", "sampling")
    configure(stress="sampling sampling")
    with pytest.raises(InputError, match="'sampling' is named more than once"):
        load_experiment()


@pytest.fixture
def compared(configure):
    """Read what the pipeline benchmark compares."""

    def compared(values, **experiment_parameters):
        configure(**experiment_parameters)
        experiment._config_loader["parameters"]["benchmark"] = values
        return load_benchmark(load_experiment())

    return compared


def test_benchmark_is_the_experiment_with_methods_and_seeds_of_its_own(compared):
    shape = compared({"methods": "all", "seeds": "1001 1002"}, n_tasks=3)
    assert shape.methods == ("ga_gd", "me_gd")
    assert shape.seeds == (1001, 1002)
    assert shape.n_tasks == 3
    assert compared({"seeds": [7]}).methods == ("me_gd",)


def test_without_its_parameters_there_is_no_benchmark(configure):
    configure()
    assert load_benchmark(load_experiment()) is None


def test_benchmark_that_takes_gigabytes_is_left_out(compared):
    """The scenarios themselves, without seeds, still fit."""
    assert compared({"seeds": [1]}, n_tasks=700) is not None
    assert compared({"seeds": [1, 2, 3]}, n_tasks=700) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ["me_gd", "meg"]}, "methods: unknown method 'meg', choose from ga_gd, me_gd"),
        ({"methods": "me_gd me_gd"}, "methods: 'me_gd' is named more than once"),
        ({"methods": ""}, "methods: Tuple should have at least 1 item after validation, not 0"),
        ({"seeds": "1001 1001"}, "seeds: seed 1001 is given more than once"),
        ({"seeds": []}, "seeds: Value should have at least 1 item after validation, not 0"),
        ({"seeds": None}, "seeds: Input should be a valid tuple"),
        ({"rank_by": "taste"}, "rank_by: Input should be 'harmonic_mean' or 'forget_efficacy'"),
        ({"seed": 3}, "seed: Extra inputs are not permitted"),
    ],
)
def test_faults_of_the_benchmark_are_a_line(compared, values, message):
    with pytest.raises(InputError) as caught:
        compared({"seeds": [1001]} | values)
    assert str(caught.value) == f"parameter benchmark.{message}"
