"""Print the peak memory of two steps of unlearning in gigabytes.

python benchmarks/peak_memory.py MODEL METHOD here|published
"""

import re
import sys
from pathlib import Path

import torch
from setups import load_method, load_model, load_plan, load_questions
from steps import step_here, step_published

model, method, protocol = sys.argv[1:]
questions = load_questions()
arguments = (load_plan(questions), questions, load_method(method))
language_model = load_model(model)
if protocol == "here":
    with step_here(language_model, *arguments) as step:
        for _ in range(2):
            step()
else:
    step = step_published(language_model, *arguments)
    del language_model  # the protocol holds two copies of it; do not add a third
    for _ in range(2):
        step()
if torch.cuda.is_available():
    print(torch.cuda.max_memory_allocated() / 1e9)
else:
    # Not ru_maxrss: it starts with the memory of the parent process.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9)
