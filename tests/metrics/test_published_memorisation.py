"""Equal to what the public benchmark's own functions give."""

import numpy as np
import pytest
from scipy.special import log_softmax

from closer_look.metrics import (
    exact_memorisation,
    extraction_strength,
    loss_score,
    membership_auc,
    min_k,
    min_k_plus_plus,
    privleak,
    reference_score,
    zlib_score,
)

SETS = ("forget", "holdout")
SCORES = ("loss", "zlib", "reference", "min_k", "min_k_plus_plus")


def computed(row, k):
    """Compute every score of a row from its logits (T, V) and labels (T,)."""
    log_p = log_softmax(np.array(row["logits"]), axis=-1)
    p = np.exp(log_p)
    means = (p * log_p).sum(axis=-1)
    variances = (p * log_p**2).sum(axis=-1) - means**2
    of_labels = log_p[np.arange(len(row["labels"])), row["labels"]]
    hits = log_p.argmax(axis=-1) == row["labels"]
    nll, n_tokens = [-of_labels.sum()], [len(of_labels)]
    return {
        "loss": loss_score(nll, n_tokens)[0],
        "zlib": zlib_score(nll, n_tokens, [row["text"]])[0],
        "reference": reference_score(nll, n_tokens, [row["reference_mean_nll"] * len(of_labels)])[
            0
        ],
        "min_k": min_k(of_labels, k),
        "min_k_plus_plus": min_k_plus_plus(of_labels, means, variances, k),
        "exact_memorization": exact_memorisation(hits),
        "extraction_strength": extraction_strength(hits),
    }, bool(hits[-1])


def test_every_row(memorisation):
    n_rows = n_never_completed = 0
    for case in memorisation["cases"]:
        for row in (row for name in SETS for row in case[name]):
            values, is_completed = computed(row, case["k"])
            expected = dict(row["expected"])
            n_rows += 1
            if not is_completed:  # published as 1 / n_tokens: see docs/reproduction.md
                n_never_completed += 1
                assert expected["extraction_strength"] == pytest.approx(1 / len(row["labels"]))
                expected["extraction_strength"] = 0
            assert values == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert n_rows > n_never_completed > 0


@pytest.mark.parametrize("score", SCORES)
def test_membership_auc(memorisation, score):
    for case in memorisation["cases"]:
        forget, holdout = (
            [computed(row, case["k"])[0][score] for row in case[name]] for name in SETS
        )
        assert membership_auc(forget, holdout) == pytest.approx(case["auc"][score], abs=1e-12)


def test_privleak(memorisation):
    for case in memorisation["cases"]:
        for name, expected in case["privleak"].items():
            aucs = dict(pair.split("=") for pair in name.split())
            value = privleak(float(aucs["auc"]), float(aucs["retain_auc"]))
            assert value == pytest.approx(expected, abs=1e-5)
