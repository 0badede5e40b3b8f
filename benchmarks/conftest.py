"""Fixtures of the benchmarks: models, TOFU rows, and the timing of two ways in turn."""

import copy
from pathlib import Path
from statistics import median

import pytest
from setups import load_model, load_plan, load_questions, missing, seconds


@pytest.fixture(scope="session")
def questions():
    return load_questions()


@pytest.fixture(scope="session")
def plan(questions):
    return load_plan(questions)


@pytest.fixture(scope="session")
def loaded():
    """Cache of models by name, so that each is loaded once."""
    return {}


@pytest.fixture(params=["small_llama", "smollm2"])
def language_model(request, loaded):
    """Copy a model, so that a benchmark may train it."""
    name = request.param
    if name not in loaded:
        loaded[name] = load_model(name)
    return loaded[name]._replace(model=copy.deepcopy(loaded[name].model))


@pytest.fixture
def side_by_side(benchmark, request):
    """Time two ways in turn, round after round; store the medians, return the result of here."""

    def side_by_side(what, here, other, rounds=5):
        times = []

        def before_each_round():
            times.append(seconds(other))

        benchmark.group = f"{what}, {request.node.callspec.params['language_model']}"
        result = benchmark.pedantic(here, setup=before_each_round, rounds=rounds, warmup_rounds=1)
        published = median(times[-rounds:])
        benchmark.extra_info["published"] = published
        benchmark.extra_info["here"] = benchmark.stats["median"]
        benchmark.extra_info["unit"] = "s"
        return result

    return side_by_side


@pytest.fixture
def measured(benchmark):
    """Store numbers that are not times of a function in the benchmark's results."""

    def measured(group, name, unit, **values):
        benchmark.group, benchmark.name = group, name
        benchmark.extra_info.update(values, unit=unit)
        benchmark.pedantic(lambda: None, rounds=1)

    return measured


def pytest_collection_modifyitems(items):
    """Skip benchmarks whose rows or model are missing, and say which."""
    for item in items:
        model = getattr(item, "callspec", None) and item.callspec.params.get("language_model")
        reason = missing(model)
        if reason and Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Print the measurements as tables for the docs."""
    lines = ["| what | here | published | ratio |", "|---|---|---|---|"]
    others = ["| what | measured |", "|---|---|"]
    for one in output_json["benchmarks"]:
        info, name = one["extra_info"], f"{one['group']}: {one['name']}"
        if "published" in info:
            parts = {f"{name}, {part}": times for part, times in info.get("parts", {}).items()}
            for what, times in ({name: info} | parts).items():
                here, published = times["here"], times["published"]
                cells = (f"{value:.3g} {info['unit']}" for value in (here, published))
                lines.append(f"| {what} | {' | '.join(cells)} | {published / here:.1f} |")
        else:
            others.append(f"| {name} | {info['value']:.3g} {info['unit']} |")
    for table in (lines, others):
        if len(table) > 2:
            config.get_terminal_writer().line("\n" + "\n".join(table))
