"""What the benchmarks share: models, TOFU rows, and two ways to do the same work side by side."""

import copy
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pytest

from closer_look.datasets.raw_rows import QuestionsDataset, RefusalsDataset
from closer_look.language_model import load_language_model
from closer_look.planning import draw_plan

ROOT = Path(__file__).parents[1]
ROWS = ROOT.parent / "shared" / "data" / "closer_look"
SMOLLM2 = ROOT / "data" / "06_models" / "pretrained" / "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def questions():
    """TOFU's forget01 and 400 rows to retain."""
    if not ROWS.exists():
        pytest.skip(f"the published rows are not beside the repository ({ROWS})")
    names = {"forget": "forget01_perturbed", "retain": "retain_perturbed"}
    splits = [
        QuestionsDataset(filepath=str(ROWS / "tofu" / f"{name}.json"), split=split).load()
        for split, name in names.items()
    ]
    return pd.concat(splits, ignore_index=True)


@pytest.fixture(scope="session")
def plan(questions):
    """One epoch of the first task, 40 rows."""
    refusals = RefusalsDataset(filepath=str(ROWS / "idontknow.jsonl")).load()
    generator = np.random.default_rng(1)
    return draw_plan(questions, refusals, 1, epochs=1, pairing="fixed", generator=generator)


@pytest.fixture(scope="session")
def small_llama(questions):
    """The model of ``conf/tofu_small``, untrained: a step costs the same."""
    import yaml

    from closer_look.parameters import SmallLlamaParameters
    from closer_look.prompts import set_prompt
    from closer_look.small_llama import small_llama

    values = {}
    for env in ("base", "tofu_small"):
        parameters = yaml.safe_load((ROOT / "conf" / env / "parameters.yml").read_text())
        values |= parameters["base_model"]["small_llama"]
    texts = [*questions["question"], *questions["answer"]]
    made = small_llama(texts, SmallLlamaParameters(**values))
    set_prompt(made.tokenizer, "plain")
    return made


@pytest.fixture(scope="session")
def smollm2():
    if not SMOLLM2.exists():
        pytest.skip("SmolLM2 is not there: make smollm2")
    return load_language_model(str(SMOLLM2))


@pytest.fixture(params=["small_llama", "smollm2"])
def language_model(request):
    """A copy that a benchmark may train."""
    made = request.getfixturevalue(request.param)
    return made._replace(model=copy.deepcopy(made.model))


@pytest.fixture
def side_by_side(benchmark):
    """Time two ways in turn, round after round; keep the other's median and the ratio."""

    def side_by_side(here, other, rounds=5):
        seconds = []

        def before_each_round():
            start = time.perf_counter()
            other()
            seconds.append(time.perf_counter() - start)

        benchmark.pedantic(here, setup=before_each_round, rounds=rounds, warmup_rounds=1)
        published = median(seconds[-rounds:])
        benchmark.extra_info["published_median_s"] = round(published, 4)
        benchmark.extra_info["times_faster"] = round(published / benchmark.stats["median"], 2)

    return side_by_side


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Print what was measured side by side, as a table for the docs."""
    lines = ["| what | here, s | published, s | times faster |", "|---|---|---|---|"]
    for one in output_json["benchmarks"]:
        other, ratio = (one["extra_info"][key] for key in ("published_median_s", "times_faster"))
        name = f"{one['group']}: {one['name']}"
        lines.append(f"| {name} | {one['stats']['median']:.3f} | {other:.3f} | {ratio:.1f} |")
    config.get_terminal_writer().line("\n" + "\n".join(lines))
