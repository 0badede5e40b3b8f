"""Fingerprints of code: what changes them, and what does not."""

import importlib
from functools import partial, wraps

import pytest

from closer_look.losses import forget
from closer_look.pipelines.finetuning.nodes import initialise
from closer_look.pipelines.forget_set.nodes import collect_questions, select_known
from closer_look.pipelines.generation.nodes import generate_answers, score_answers
from closer_look.pipelines.metrics.nodes import measure_rows
from closer_look.pipelines.reporting.nodes import write_report
from closer_look.pipelines.unlearning.nodes import unlearn
from closer_look.system import code
from closer_look.system.code import code_fingerprint, code_hash

LIBRARY = """
LIMIT = 3
UNUSED = 4

def helper(value):
    return value + LIMIT

def other(value):
    return value

class Kept:
    size = 1
"""
MODULE = """
import logging
from some_package.library import helper, Kept

log = logging.getLogger(__name__)

def work(value):
    if value < 0:
        raise ValueError("negative")
    log.info("working")
    return helper(value) + Kept.size
"""


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """Write a package of two modules, and take the fingerprint of its function ``work``."""
    monkeypatch.syspath_prepend(tmp_path)

    def fingerprint(module=MODULE, library=LIBRARY, where="some_package.module", **others):
        for name, text in {"__init__": "", "module": module, "library": library, **others}.items():
            path = tmp_path / "some_package" / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        for cached in (code._definitions, code._imports, code._source, code._resolve):
            cached.cache_clear()
        code._reached.cache_clear()
        return code_hash(f"{where}:work")

    return fingerprint


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("value < 0", "value < 1"),
        ("+ Kept.size", "- Kept.size"),
        ("helper, Kept", "other as helper, Kept"),
    ],
)
def test_what_the_function_does_is_its_code(fingerprint, was, now):
    assert was in MODULE
    assert fingerprint() != fingerprint(MODULE.replace(was, now))


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("value + LIMIT", "value - LIMIT"),
        ("LIMIT = 3", "LIMIT = 5"),
        ("size = 1", "size = 2"),
        ("LIMIT = 3", "LIMIT = 3\nprint(LIMIT)"),  # run when the module is imported
    ],
)
def test_what_it_reaches_is_its_code(fingerprint, was, now):
    assert was in LIBRARY
    assert fingerprint() != fingerprint(library=LIBRARY.replace(was, now))


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("def work(value):", 'def work(value):\n    """Work."""'),
        ("def work(value):", "def work(value: int) -> int:  # a comment"),
        ('"negative"', '"value must not be negative"'),
        ('"working"', '"still working"'),
        ('    log.info("working")\n', ""),
        ("import helper, Kept", "import (\n    Kept, helper\n)"),
    ],
)
def test_prose_is_no_code(fingerprint, was, now):
    assert was in MODULE
    assert fingerprint() == fingerprint(MODULE.replace(was, now))


def test_what_it_does_not_reach_is_no_code(fingerprint):
    assert fingerprint() == fingerprint(library=LIBRARY.replace("UNUSED = 4", "UNUSED = 5"))
    changed = LIBRARY.replace("def other(value):\n    return value", "def other(value):\n    pass")
    assert fingerprint() == fingerprint(library=changed)


def test_a_function_may_move(fingerprint):
    before = fingerprint()
    moved = MODULE.replace("some_package.library", "some_package.elsewhere")
    assert fingerprint(moved, library="", elsewhere=LIBRARY) == before
    assert fingerprint("", work_moved=MODULE, where="some_package.work_moved") == before
    lazily = MODULE.replace("from some_package.library import helper, Kept\n", "").replace(
        "    if", "    from some_package import library\n\n    if"
    )
    lazily = lazily.replace("helper(", "library.helper(").replace("Kept.", "library.Kept.")
    assert fingerprint(lazily) != before  # other words for it
    assert fingerprint(lazily) != fingerprint(lazily, library=LIBRARY.replace("= 3", "= 5"))


def test_a_package_may_have_no_init(fingerprint, tmp_path):
    before = fingerprint()
    (tmp_path / "some_package" / "__init__.py").unlink()
    code._source.cache_clear()
    code._definitions.cache_clear()
    code._reached.cache_clear()
    assert code_hash("some_package.module:work") == before


def test_data_beside_a_module_is_its_code(fingerprint, tmp_path):
    before = fingerprint()
    (tmp_path / "some_package" / "library.html.jinja").write_text("<p>")
    assert fingerprint() != before


def test_a_function_reaches_its_stage_and_no_other():
    trained = code_fingerprint(unlearn).keys()
    assert {"train", "pack", "_attend_within_rows", "Guard", "set_prompt"} - trained == {
        "set_prompt"
    }
    assert not {"render_report", "row_metrics", "TooMuch"} & trained
    assert "train" not in code_fingerprint(initialise)  # which tries adapters, and trains nothing
    assert not {"generate", "judge"} & code_fingerprint(collect_questions).keys()
    assert "render_report" in code_fingerprint(write_report)


@pytest.mark.parametrize("node", [score_answers, generate_answers, select_known, unlearn])
def test_a_new_metric_or_loss_makes_nothing_stale(node):
    reached = code_fingerprint(node).keys()
    assert not {"METRICS", "FORGET", "RETAIN", "progress_bar"} & reached


def test_metrics_are_the_code_of_the_node_that_measures():
    assert {"METRICS", "rouge_l_recall", "forget_truth_ratio"} <= code_fingerprint(
        measure_rows
    ).keys()


def test_open_tables_are_there():
    for module, name in code.OPEN_TABLES:
        assert isinstance(getattr(importlib.import_module(module), name), dict)
    for module in code.NOT_FOLLOWED:
        assert importlib.import_module(module)


def test_of_the_losses_those_are_code_that_are_called_by_name():
    losses = {"gradient_ascent", "npo", "maximum_entropy", "kl", "gradient_descent"}
    assert losses & code_fingerprint(unlearn).keys() == set()


def test_a_loss_is_what_it_reaches():
    reached = code_fingerprint(forget.npo).keys()
    assert {"npo", "sequence_nll", "IGNORE", "mean_over_answered_rows"} <= reached
    assert "maximum_entropy" not in reached
    assert "_MeanOverPositions" in code_fingerprint(forget.maximum_entropy)


def test_a_function_that_is_wrapped_or_given_arguments_is_the_same_code():
    wrapped = wraps(collect_questions)(lambda: None)
    for function in (wrapped, partial(collect_questions, None)):
        assert code_fingerprint(function) == code_fingerprint(collect_questions)


def test_source_that_is_not_at_hand_is_named():
    with pytest.raises(ValueError, match=r"some_module\.work: its source is not at hand"):
        code_hash("some_module:work")
