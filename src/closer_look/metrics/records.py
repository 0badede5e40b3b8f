"""Records of the metrics: the function of each, its label, and a sentence for the report.

To add a metric, write a function of :class:`Rows` and a line in ``METRICS``; the report, the
figures and the tables read the record. The parameter ``metrics.own`` names metrics of the user's
own package by their dotted paths.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from closer_look.metrics.aggregates import forget_truth_ratio, retain_truth_ratio
from closer_look.metrics.likelihood import probability, probability_among, truth_ratio
from closer_look.metrics.memorisation import (
    exact_memorisation,
    extraction_strength,
    without_end,
)
from closer_look.metrics.text import rouge_l_recall
from closer_look.plugins import load_object

MULTIPLE_CHOICE = ["real_authors", "world_facts"]
ENTAILMENT_MIN_ROUGE = 0.1

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """N questions and a model's answers to them, as aligned tables with one line per row.

    Attributes:
        generations: split, task_id, row_id, question, reference, generated, n_tokens,
            token_entropy, stopped_by.
        judgements: cosine_similarity, entailment (bool; NaN without a judge).
        scores: of the gold answer: nll (summed, nats), n_tokens, and the lists
            token_log_probabilities and token_hits.
        nll: summed nats, a column per kind of answer (answer, paraphrased, wrong_1, ...); NaN where
            a row has no such answer.
        n_tokens: numbers of tokens, in the columns of ``nll``.
    """

    generations: pd.DataFrame
    judgements: pd.DataFrame
    scores: pd.DataFrame
    nll: pd.DataFrame
    n_tokens: pd.DataFrame

    @property
    def wrong(self) -> list[str]:
        """The kinds of wrong answers."""
        return [kind for kind in self.nll if kind.startswith("wrong_")]

    @cached_property
    def rouge(self) -> Values:
        """ROUGE-L recall of each answer, (N,), computed once for the two metrics that use it."""
        return rouge_l_recall(self.generations["generated"], self.generations["reference"])


def _mean(values: Values, split: str) -> Values:
    return values.mean(axis=-1)


class Metric(NamedTuple):
    """A metric, with everything that tables, figures and the report need to know of it."""

    name: str
    """Its column in ``row_metrics``."""
    label: str
    """Its name in figures and the report ("ROUGE-L")."""
    sentence: str
    """Its meaning for the report, which continues "label: "."""
    of_rows: Callable[[Rows], Values]
    """Computes a number per row, (N,); NaN where the row lacks what the metric needs."""
    over_rows: Callable[[Values, str], Values] = _mean
    """Aggregates over rows, (values (..., N), split) -> (...), between 0 and 1."""
    needs: str = ""
    """Its needs in addition to the model's answer ("a judge"); rows that lack it have no value."""


def _probability(rows: Rows) -> Values:
    nll, n_tokens, wrong = rows.nll, rows.n_tokens, rows.wrong
    return np.where(
        rows.generations["split"].isin(MULTIPLE_CHOICE),
        probability_among(nll["answer"], n_tokens["answer"], nll[wrong], n_tokens[wrong]),
        probability(nll["answer"], n_tokens["answer"]),
    )


def truth_ratio_of_rows(rows: Rows) -> Values:
    """Compute the truth ratio r of each row, not yet aggregated (arXiv 2401.06121, section 2.2).

    The true answer is the paraphrased one if there is one, else the answer itself.
    """
    nll, n_tokens, wrong = rows.nll, rows.n_tokens, rows.wrong
    is_paraphrased = n_tokens["paraphrased"].notna()
    return truth_ratio(
        nll["paraphrased"].where(is_paraphrased, nll["answer"]),
        n_tokens["paraphrased"].where(is_paraphrased, n_tokens["answer"]),
        nll[wrong],
        n_tokens[wrong],
    )


def _truth_ratio_over_rows(values: Values, split: str) -> Values:
    return forget_truth_ratio(values) if split == "forget" else retain_truth_ratio(values)


def _cosine_similarity(rows: Rows) -> Values:
    similarity = rows.judgements["cosine_similarity"].to_numpy(float, na_value=np.nan)
    return similarity.clip(0, 1)  # float32 cosines can exceed 1 by a rounding error


def _entailment(rows: Rows) -> Values:
    entailment = rows.judgements["entailment"].to_numpy(float, na_value=np.nan)
    return entailment * (rows.rouge >= ENTAILMENT_MIN_ROUGE)


def _token_entropy(rows: Rows) -> Values:
    return rows.generations["token_entropy"].to_numpy(float)


def _of_hits(metric: Callable[[Sequence[bool]], float]) -> Callable[[Rows], Values]:
    """Apply a metric to the hits of each row, as published: without the end of the answer."""

    def of_rows(rows: Rows) -> Values:
        hits = rows.scores.reindex(columns=["token_hits"])["token_hits"]
        return np.array([metric(without_end(of_row)) for of_row in hits])

    return of_rows


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "rouge",
            "ROUGE-L",
            "how much of the reference answer's wording the model's answer holds",
            lambda rows: rows.rouge,
        ),
        Metric(
            "probability",
            "Probability",
            "how likely the model finds the true answer, per word piece (where there are options "
            "to choose from: against these)",
            _probability,
            needs="wrong answers to choose among",  # on MULTIPLE_CHOICE
        ),
        Metric(
            "truth_ratio",
            "Truth ratio",
            "whether the model finds the reworded truth likelier than wrong answers worded alike",
            truth_ratio_of_rows,
            _truth_ratio_over_rows,
            needs="wrong answers",
        ),
        Metric(
            "cosine_similarity",
            "Cosine",
            "whether the model's answer means the same as the reference",
            _cosine_similarity,
        ),
        Metric(
            "entailment",
            "Entailment",
            "whether the model's answer states the fact",
            _entailment,
            needs="a judge",
        ),
        Metric(
            "token_entropy",
            "Entropy",
            "whether the answer is varied text, not one word over and over",
            _token_entropy,
        ),
        Metric(
            "exact_memorisation",
            "Exact memorisation",
            "how many word pieces of the true answer are the model's first choice, the true ones "
            "before them given",
            _of_hits(exact_memorisation),
        ),
        Metric(
            "extraction_strength",
            "Extraction strength",
            "how much of the true answer the model completes word for word, its beginning given",
            _of_hits(extraction_strength),
        ),
    )
}
"""Column of ``row_metrics`` -> record, in the order of tables and figures."""


def with_own_metrics(paths: Iterable[str]) -> dict[str, Metric]:
    """Return ``METRICS``, followed by metrics of the user's own package.

    Args:
        paths: ``package.module:name`` of a :class:`Metric` or of a function of :class:`Rows`.

    Raises:
        ValueError: there is no metric under a path, or its name is taken.
    """
    metrics = dict(METRICS)
    for path in paths:
        found = load_object(path, "metric")
        if inspect.isfunction(found):
            label = found.__name__.replace("_", " ").capitalize()
            found = Metric(found.__name__, label, f"a metric of {found.__module__}", found)
        if not isinstance(found, Metric):
            raise ValueError(f"metric '{path}' is neither a Metric nor a function")
        if found.name in metrics:
            raise ValueError(f"metric '{path}': there is a metric '{found.name}' already")
        metrics[found.name] = found
    return metrics
