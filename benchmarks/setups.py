"""Models, rows and methods of the benchmarks, without pytest, so that subprocesses can use them."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from closer_look.data.planning import draw_plan
from closer_look.datasets.raw_rows import QuestionsDataset, RefusalsDataset
from closer_look.models.language_model import load_language_model
from closer_look.models.prompts import set_prompt
from closer_look.models.small_llama import small_llama
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.models import SmallLlamaParameters

ROOT = Path(__file__).parents[1]
ROWS = ROOT.parent / "shared" / "data" / "closer_look"
NLI = ROOT.parent / "shared" / "models" / "nli-minilm"
SMOLLM2 = ROOT / "data" / "06_models" / "pretrained" / "smollm2-135m-instruct"
METHODS = ROOT / "conf" / "base" / "parameters_methods"


def missing(model):
    """Return the reason why a benchmark cannot run here, or None."""
    if not ROWS.exists():
        return f"the published rows are missing ({ROWS})"
    if model == "smollm2" and not SMOLLM2.exists():
        return "SmolLM2 is missing: make smollm2"
    return None


def load_questions():
    """Load TOFU's forget01 and 400 rows to retain."""
    names = {"forget": "forget01_perturbed", "retain": "retain_perturbed"}
    splits = [
        QuestionsDataset(filepath=str(ROWS / "tofu" / f"{name}.json"), split=split).load()
        for split, name in names.items()
    ]
    return pd.concat(splits, ignore_index=True)


def load_plan(questions):
    """Draw one epoch of the first task, 40 rows."""
    refusals = RefusalsDataset(filepath=str(ROWS / "idontknow.jsonl")).load()
    generator = np.random.default_rng(1)
    return draw_plan(questions, refusals, 1, epochs=1, pairing="fixed", generator=generator)


def load_model(name, **changes):
    """Load SmolLM2, or make the model of ``conf/tofu_small``, untrained: a step costs the same."""
    if name == "smollm2":
        return load_language_model(str(SMOLLM2))
    values = {}
    for env in ("base", "tofu_small"):
        parameters = yaml.safe_load((ROOT / "conf" / env / "parameters.yml").read_text("utf-8"))
        values |= parameters["base_model"]["small_llama"]
    questions = load_questions()
    texts = [*questions["question"], *questions["answer"]]
    made = small_llama(texts, SmallLlamaParameters(**values | changes))
    set_prompt(made.tokenizer, "plain")
    return made


def load_method(name):
    """Load a method from ``conf/base``."""
    values = yaml.safe_load((METHODS / f"{name}.yml").read_text("utf-8"))
    return MethodParameters(**values["methods"][name])


def seconds(function):
    """Time a call, in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
