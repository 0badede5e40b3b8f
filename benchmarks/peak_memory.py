"""Print the gigabytes that two steps of unlearning hold at most: MODEL METHOD here|published."""

import resource
import sys

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
    del language_model  # the protocol holds two copies of it, no third
    for _ in range(2):
        step()
if torch.cuda.is_available():
    print(torch.cuda.max_memory_allocated() / 1e9)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
