"""One word for the same node of many cells, and never one node more."""

from fnmatch import fnmatchcase

import pytest

from closer_look.project.node_patterns import expand, patterns

NODES = [
    f"continual.{method}.task_{task:02d}.{node}"
    for method in ("ga_gd", "me_gd", "npo_kl")
    for task in (1, 2, 100)
    for node in ("unlearn", "score_answers")
] + ["finetune", "continual.write_report", "continual.me_gd.stack_metrics"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("unlearn", ["continual.*.unlearn"]),
        ("task_02.unlearn", ["continual.*.task_02.unlearn"]),
        ("me_gd", ["continual.me_gd.*.unlearn", "continual.me_gd.*.score_answers"]),
        ("me_gd.task_100.unlearn", ["continual.me_gd.task_100.unlearn"]),
        ("finetune", ["finetune"]),
        ("report", ["continual.write_report"]),
    ],
)
def test_patterns_are_short_and_match_what_is_named_alone(wanted, found):
    names = [name for name in NODES if wanted in name and "stack" not in name]
    others = [name for name in NODES if name not in names]
    assert patterns(names, others) == found
    assert sorted(expand(found, NODES)) == sorted(names)


def test_no_pattern_matches_another_node():
    names = [name for name in NODES if "task_01" in name or "npo_kl" in name]
    others = [name for name in NODES if name not in names]
    found = patterns(names, others)
    assert all(any(fnmatchcase(name, one) for one in found) for name in names)
    assert not any(fnmatchcase(name, one) for name in others for one in found)


def test_a_seed_is_named_by_one_pattern():
    nodes = [
        f"continual.{method}.seed_{seed}.task_{task:02d}.{node}"
        for method in ("ga_gd", "me_gd")
        for seed in (1001, 1002)
        for task in (1, 2)
        for node in ("unlearn", "score_answers")
    ]
    names = [name for name in nodes if "seed_1002" in name and "unlearn" in name]
    others = [name for name in nodes if name not in names]
    assert patterns(names, others) == ["continual.*.seed_1002.*.unlearn"]
    assert expand(["continual.*.seed_1002.*.unlearn"], nodes) == names


def test_names_and_patterns_without_a_match_stay_as_they_are():
    assert expand(["finetune", "continual.*.fly"], NODES) == ["finetune", "continual.*.fly"]
