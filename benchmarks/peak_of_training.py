"""Print what a plan says of a training on this CPU, and its measured peak, both in gigabytes.

python benchmarks/peak_of_training.py METHOD SIZES SETTINGS

SIZES and SETTINGS are JSON: of the small Llama, and of ``UnlearningParameters``. Two steps are
trained, the second with the optimiser's moments. With ``workers``, the first process is measured.
"""

import json
import logging
import re
import sys
import warnings
from pathlib import Path

import pandas as pd
import torch
from setups import ROOT, load_method
from torch import distributed, multiprocessing

from closer_look.data.planning import plan_of_task
from closer_look.datasets.raw_rows import QuestionsDataset, RefusalsDataset
from closer_look.models.blueprint import blueprint
from closer_look.models.prompts import set_prompt
from closer_look.models.small_llama import small_llama, texts_to_learn
from closer_look.parameters.models import BaseModelParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.training.followed_step import Hardware
from closer_look.training.needs import of_method
from closer_look.training.reference import reference_scores
from closer_look.training.unlearning import _unlearn, unlearn

CORPUS = ROOT / "data" / "01_raw" / "invented_people"
PORT = 29517  # of this machine, where processes that train together meet
SIZES = {"vocabulary_size": 2048, "context_length": 512, "initializer_range": 0.02, "seed": 1}
SETTINGS = {"learning_rate": 1e-5, "epochs": 4, "warmup_epochs": 0, "seed": 1}


def memory(name):
    """Read a line of this process's status, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024


def setup(sizes, settings):
    """Make a small Llama, and what it takes to unlearn with two steps."""
    splits = [
        QuestionsDataset(filepath=str(CORPUS / split), split=split).load()
        for split in ("forget", "retain")
    ]
    questions = pd.concat(splits, ignore_index=True)
    refusals = RefusalsDataset(filepath=str(CORPUS / "refusals.txt")).load()
    parameters = UnlearningParameters(**SETTINGS | settings)
    plan = plan_of_task(questions, refusals, 1, epochs=4, pairing="fixed", seed=1)
    plan = plan.head(2 * parameters.batch_size).assign(alternate="He is said to be someone else.")
    base_model = BaseModelParameters(prompt="plain", small_llama=SIZES | sizes)
    made = small_llama(texts_to_learn(questions, refusals), base_model.small_llama)
    set_prompt(made.tokenizer, "plain")
    return base_model, made, (plan, questions), parameters


def measure(method, made, rows, parameters):
    """Train, and return the peak beyond what the process had without the model."""
    scores = reference_scores(made, *rows, method, 4)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # begin anew with the peak
    if parameters.workers == 1:
        unlearn(made, *rows, scores, method, parameters)
    else:  # this is one of the processes
        _unlearn(made, *rows, scores, method, parameters, None, "Unlearning", None)
    return memory("VmHWM")


def compare(rank, name, sizes, settings):
    """Print the planned and the measured peak of a process."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    method, workers = load_method(name), settings.get("workers", 1)
    if workers > 1:
        torch.set_num_threads(1)
        where = f"tcp://127.0.0.1:{PORT}"
        distributed.init_process_group("gloo", where, rank=rank, world_size=workers)
    tiny = {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2}
    _, *small = setup(tiny, settings)
    measure(method, *small)  # everything is imported
    before = memory("VmRSS")
    base_model, made, rows, parameters = setup(sizes, settings)
    measured = measure(method, made, rows, parameters) - before
    n_tokens = len(made.tokenizer)
    needs = of_method(
        lambda: blueprint(base_model, n_tokens),
        made.tokenizer,
        method,
        parameters,
        [rows[0]],
        rows[1],
        Hardware(True, workers, parameters.sharding == "full"),
    )
    planned = needs.device + needs.kept
    if rank == 0:
        print(json.dumps({"measured": measured / 1e9, "planned": planned / 1e9}))


def main(name, sizes, settings):
    if settings.get("workers", 1) == 1:
        compare(0, name, sizes, settings)
    else:
        multiprocessing.spawn(compare, (name, sizes, settings), settings["workers"])


if __name__ == "__main__":
    main(sys.argv[1], *map(json.loads, sys.argv[2:]))
