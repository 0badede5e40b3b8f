"""Seconds and memory that the graph of a run costs, whatever its nodes do, as one line of JSON.

    python benchmarks/graph_costs.py METHODS TASKS

The run is one of ``conf/test`` whose methods are copies of ME+GD. Its nodes are those of the
project, but each makes a few bytes in place of a model or a table, so what remains is the work of
Kedro and of the project's hooks: they build the graph, look at what is there, and hash and record
what each node has made.
"""

import json
import logging
import resource
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Pipeline

from closer_look.project.runner import DepthFirstRunner
from closer_look.project.session import Session

ROOT = Path(__file__).parents[1]
STORED_AS_JSON = (
    *("table_dataset.TableDataset", "causal_lm_dataset.CausalLMDataset", "plotly.JSONDataset"),
    *("reference_scores_dataset.ReferenceScoresDataset", "report_dataset.ReportDataset"),
)


def graph_costs(n_methods, n_tasks, data):
    """Measure a run in a folder: what it costs to begin, to run, and to find all of it there."""
    costs = {"cells": n_methods * n_tasks}
    parameters = shape(n_methods, n_tasks) | {"data": str(data)}
    for name in ("nothing there", "all there"):
        only_missing = name == "all there"
        with opened(parameters) as session:
            with timed(costs, f"session, {name}"):
                catalog = start(session)
            pipeline = pipelines["continual"]
            hook = session._hook_manager.hook
            asked = {"runtime_params": parameters, "load_versions": None}
            asked["only_missing_outputs"] = only_missing
            arguments = {"run_params": asked, "pipeline": pipeline, "catalog": catalog}
            with timed(costs, f"check, {name}"):
                hook.before_pipeline_run(**arguments)
            idle = Pipeline([node._copy(func=without_work(node)) for node in pipeline.nodes])
            with timed(costs, f"run, {name}"):
                DepthFirstRunner().run(
                    idle, catalog, session._hook_manager, only_missing_outputs=only_missing
                )
            hook.after_pipeline_run(run_result={}, **arguments)
    costs["nodes"] = len(pipeline.nodes)
    costs["milliseconds per node"] = 1000 * costs["run, nothing there"] / costs["nodes"]
    records = data / "08_reporting" / "test" / "provenance.jsonl"
    costs["provenance, MB"] = records.stat().st_size / 1e6
    costs["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return costs


def shape(n_methods, n_tasks):
    """Give the parameters of a run with copies of a method."""
    terms = {"forget": {"loss": "maximum_entropy"}, "retain": {"loss": "gradient_descent"}}
    copies = {f"copy_{i:02d}": terms | {"label": f"Copy {i}"} for i in range(1, n_methods + 1)}
    return {"experiment": {"methods": list(copies), "n_tasks": n_tasks}, "methods": copies}


def opened(parameters):
    """Open a session in ``conf/test``."""
    return Session.create(ROOT, env="test", runtime_params=parameters)


def start(session):
    """Build pipelines and catalog, as a run does; tables and models are JSON files."""
    context = session.load_context()
    entries = context.config_loader["catalog"]
    for name, entry in entries.items():
        if entry.get("type", "").endswith(STORED_AS_JSON):
            stored = {key: entry[key] for key in ("filepath", "versioned") if key in entry}
            entries[name] = {"type": "json.JSONDataset"} | stored
    context.config_loader["catalog"] = entries
    context._pipelines_to_validate = ["continual"]
    return context._get_catalog(save_version=session.session_id)


def without_work(node):
    """Wrap a node's function, which stays the one that is recorded, and give its name back."""

    @wraps(node.func)
    def idle(*args, **kwargs):
        outputs = [[name] for name in node.outputs]
        return outputs if isinstance(node._outputs, list) else outputs[0]

    return idle


@contextmanager
def timed(costs, name):
    """Note the seconds of this process's work in the block."""
    before = time.process_time()
    yield
    costs[name] = time.process_time() - before


if __name__ == "__main__":
    bootstrap_project(ROOT)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        found = graph_costs(*map(int, sys.argv[1:]), Path(folder))
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))
