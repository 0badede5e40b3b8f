"""Nodes of all stages: Kedro can read their types, and they stay thin."""

import ast
import importlib
import inspect
import pkgutil
from typing import get_type_hints

import pytest

from closer_look import pipelines

STAGES = [stage.name for stage in pkgutil.iter_modules(pipelines.__path__) if stage.ispkg]


def nodes_of(stage):
    module = importlib.import_module(f"closer_look.pipelines.{stage}.nodes")
    return [f for f in vars(module).values() if getattr(f, "__module__", "") == module.__name__]


@pytest.mark.parametrize("stage", STAGES)
def test_types_of_every_node_can_be_read(stage):
    """Otherwise Kedro does not validate the node's parameters."""
    for node in nodes_of(stage):
        assert get_type_hints(node)


@pytest.mark.parametrize("stage", STAGES)
def test_nodes_call_the_library(stage):
    for node in nodes_of(stage):
        (function,) = ast.parse(inspect.getsource(node)).body
        body = function.body[1:] if ast.get_docstring(function) else function.body
        statements = [one for one in ast.walk(ast.Module(body, [])) if isinstance(one, ast.stmt)]
        assert len(statements) <= 15, node.__name__
