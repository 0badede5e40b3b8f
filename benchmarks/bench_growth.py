"""Growth of time with rows, length, vocabulary, tasks and cells: the slope of log time."""

import json
import logging
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
from setups import ROOT, load_method, load_model, load_plan, seconds
from steps import BATCH_SIZE, step_here

from closer_look.models.tokens import encode


def exponent(sizes, functions, rounds=5):
    """Time the functions in turn, round after round; fit a power law to the medians."""
    for function in functions:
        function()  # warms up
    times = [[seconds(function) for function in functions] for _ in range(rounds)]
    return slope(sizes, np.median(times, axis=0))


def slope(sizes, times):
    return np.polyfit(np.log(sizes), np.log(times), 1)[0]


@pytest.mark.parametrize("method", ["ga_gd", "npo_kl"])
def test_rows(measured, questions, method):
    """Time epochs of 10, 20 and 40 rows."""
    method = load_method(method)
    plan = load_plan(questions)
    sizes = [10, 20, 40]
    with ExitStack() as stack:
        epochs = []
        for size in sizes:
            arguments = (load_model("small_llama"), plan.head(size), questions, method)
            step = stack.enter_context(step_here(*arguments))
            n_steps = -(-size // BATCH_SIZE)
            epochs.append(lambda step=step, n=n_steps: [step() for _ in range(n)])
        found = exponent(sizes, epochs)
    measured("growth", f"rows 10, 20, 40, {method.label}", "(exponent)", value=found)


@pytest.mark.parametrize("method", ["ga_gd", "npo_kl"])
def test_length(measured, questions, method):
    """Time steps whose questions and answers are repeated once, twice and four times."""
    method = load_method(method)
    sizes, tokens = [1, 2, 4], []
    with ExitStack() as stack:
        steps = []
        for size in sizes:
            longer = questions.copy()
            for column in ("question", "answer"):
                longer[column] = [" ".join([text] * size) for text in questions[column]]
            model = load_model("small_llama", context_length=2048)
            plan = load_plan(longer).head(BATCH_SIZE)
            row_ids = [*plan["forget_row_id"], *plan["retain_row_id"]]
            asked = longer.set_index("row_id").loc[row_ids, ["question", "answer"]]
            tokens.append(sum(map(len, encode(model.tokenizer, *asked.to_numpy().T))))
            steps.append(stack.enter_context(step_here(model, plan, longer, method)))
        found = exponent(tokens, steps, rounds=15)
    measured("growth", f"length, rows x 1, 2, 4, {method.label}", "(exponent)", value=found)


@pytest.mark.parametrize("method", ["ga_gd", "me_gd", "npo_kl"])
def test_vocabulary(measured, questions, method):
    """Time steps of models that differ only in the size of their vocabulary, on the same tokens."""
    method = load_method(method)
    plan = load_plan(questions).head(BATCH_SIZE)
    sizes = [4096, 8192, 16384]
    with ExitStack() as stack:
        steps = []
        for size in sizes:
            model = load_model("small_llama")
            model.model.resize_token_embeddings(size)
            steps.append(stack.enter_context(step_here(model, plan, questions, method)))
        found = exponent(sizes, steps)
    measured("growth", f"vocabulary 4096, 8192, 16384, {method.label}", "(exponent)", value=found)


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """Run chains of ME+GD: number of tasks -> seconds per kind of node, and rows evaluated."""
    return {n: run_chain(tmp_path_factory.mktemp(f"tasks_{n}"), n) for n in (1, 2, 4, 8)}


def test_tasks_training(measured, chains):
    spent = [times["unlearn"] + times["score_reference"] for times, _ in chains.values()]
    found = slope(list(chains), spent)
    measured("growth", "tasks 1, 2, 4, 8, training", "(exponent)", value=found)


def test_tasks_evaluation(measured, chains):
    """Fit evaluation time to the rows evaluated, which include those of all earlier tasks."""
    kinds = ("generate_answers", "score_answers", "judge_answers", "measure_rows")
    spent = [sum(times[kind] for kind in kinds) for times, _ in chains.values()]
    found = slope([n_rows for _, n_rows in chains.values()], spent)
    measured("growth", "tasks 1, 2, 4, 8, evaluation by its rows", "(exponent)", value=found)


def run_chain(data, n_tasks):
    """Run a chain with Kedro; return seconds in each kind of node, and rows evaluated."""
    from kedro.framework.startup import bootstrap_project

    from closer_look.project.session import Session

    bootstrap_project(ROOT)
    parameters = {
        "data": str(data),
        "finetuning": {"epochs": 1, "warmup_epochs": 0},
        "forget_set": {"evaluation_rows": 5},
        "generation": {"max_length": 100},
        "experiment": {"methods": "me_gd", "n_tasks": n_tasks},
    }
    stopwatch = Stopwatch()
    logger = logging.getLogger("closer_look")
    logger.addHandler(stopwatch)
    try:
        for what in ({"pipeline_names": ["forget_set", "finetuning"]}, {"tags": ["me_gd"]}):
            stopwatch.seconds.clear()
            with Session.create(ROOT, env="tofu_small", runtime_params=parameters) as session:
                session.run(**({"pipeline_names": ["continual"]} | what))
            stopwatch.stop(time.time())
    finally:
        logger.removeHandler(stopwatch)
    found = data.rglob("me_gd/task_*/generations.parquet/*/*.parquet")
    return stopwatch.seconds, sum(len(pd.read_parquet(path)) for path in found)


class Stopwatch(logging.Handler):
    """Adds up the seconds of each kind of node, from the log line of its start to the next one."""

    def __init__(self):
        super().__init__()
        self.seconds = Counter()
        self.node = None

    def emit(self, record):
        if record.name == "closer_look.project.node_log":
            self.stop(record.created)
            self.node, self.start = record.args[-1].rpartition(".")[2], record.created

    def stop(self, now):
        if self.node:
            self.seconds[self.node] += now - self.start
        self.node = None


@pytest.fixture(scope="module")
def graphs():
    """Run graphs of 11 methods whose nodes do nothing: number of cells -> costs."""
    found = {}
    for n_tasks in (2, 5, 10, 20):
        command = [sys.executable, ROOT / "benchmarks" / "graph_costs.py", "11", str(n_tasks)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        costs = json.loads(done.stdout.splitlines()[-1])
        found[costs["cells"]] = costs
    return found


@pytest.mark.parametrize(
    "what", ["session, all there", "check, nothing there", "check, all there", "run, nothing there"]
)
def test_cells(measured, graphs, what):
    """Time what a graph costs beside the work of its nodes."""
    found = slope(list(graphs), [costs[what] for costs in graphs.values()])
    measured("growth", f"cells 22, 55, 110, 220, {what}", "(exponent)", value=found)
