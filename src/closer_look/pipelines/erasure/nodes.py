"""Nodes of the erasure."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from closer_look.data.questions import check_questions
from closer_look.datasets.requests_dataset import RequestFiles
from closer_look.datasets.served_models_dataset import ServedModels
from closer_look.erasure.ledger import Ledger
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.attacks import StressParameters
from closer_look.parameters.base import depends_on
from closer_look.parameters.erasure import ErasureParameters
from closer_look.parameters.evaluation import (
    GenerationParameters,
    JudgesParameters,
    MetricsParameters,
    ScoringParameters,
)
from closer_look.parameters.experiment import ForgetSetParameters
from closer_look.parameters.models import ExportParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.reporting.run_record import code_version
from closer_look.system.storage import is_url, shown, write

Inbox = Any  # of erasure.inbox
Book = Any  # of erasure.book
ExportedModel = Any  # of models.export
Figure = Any  # of plotly, whose import is slow: Kedro resolves the annotations of nodes

log = logging.getLogger(__name__)


@depends_on(export=())
def check_requests(
    requests: RequestFiles,
    ledger: Ledger,
    models: ServedModels,
    target_model: LanguageModel,
    generation: GenerationParameters,
    judges: JudgesParameters,
    export: ExportParameters,
) -> Inbox:
    """Read the requests, and check those that the ledger has not decided yet.

    What the export would refuse after hours of unlearning is refused here.
    """
    from closer_look.erasure.chain import read_chain
    from closer_look.erasure.inbox import check_texts, read_inbox
    from closer_look.erasure.salt import read_salt
    from closer_look.models.export import check_export

    check_export(target_model, export)
    lines = ledger.lines()
    salt = read_salt(models.folder, is_new=not lines)
    inbox = read_inbox(requests, read_chain(lines), salt)
    return check_texts(inbox, target_model, generation, judges)


def serve_requests(
    inbox: Inbox,
    ledger: Ledger,
    served_models: ServedModels,
    erasure_results: Path | str,
    erasure_checkpoints: Path,
    refusals: list[str],
    erasure: ErasureParameters,
    methods: dict[str, Any],
    unlearning: UnlearningParameters,
    forget_set: ForgetSetParameters,
    generation: GenerationParameters,
    scoring: ScoringParameters,
    judges: JudgesParameters,
    metrics: MetricsParameters,
    attacks: dict[str, Any],
    stress: StressParameters,
    requests: RequestFiles,
    data_folder: Path | str,
    **splits: pd.DataFrame,
) -> Book:
    """Serve the pending requests, or make an earlier model current again; purge what is served."""
    from closer_look.erasure.book import Book
    from closer_look.erasure.candidates import Settings
    from closer_look.erasure.purge import purge
    from closer_look.erasure.salt import read_salt
    from closer_look.erasure.serving import Service
    from closer_look.evaluation.judges import check_judges

    groups = (
        *(erasure, methods, unlearning, forget_set, generation, scoring, judges, metrics),
        *(attacks, stress),
    )
    retained = check_questions(pd.concat(splits.values(), ignore_index=True), "rows to retain")
    check_judges(retained, judges.embedder, judges.entailment)
    book = Book(ledger, erasure_results, read_salt(served_models.folder, is_new=True))
    places = book, served_models, erasure_checkpoints
    Service(*places, retained, refusals, Settings(*groups), code_version()).serve(inbox)
    if erasure.purge:
        purge(book, requests, None if is_url(data_folder) else data_folder)
    return book


def certify(
    book: Book,
    models: ServedModels,
    certificates: Path | str,
    erasure: ErasureParameters,
) -> int:
    """Write the certificates that are missing or no longer of a request's last decision."""
    from closer_look.reporting.certificate import render_certificate
    from closer_look.reporting.certification import missing_certificates

    written = 0
    for request_id, envelope in missing_certificates(book, models, certificates, erasure.key):
        file = f"{request_id}.json"
        page = render_certificate(envelope, file)
        contents = {file: json.dumps(envelope.content), f"{request_id}.html": page}
        for name, text in contents.items():
            write(f"{certificates}/{name}", text.encode())
        log.info("Certificate: %s", shown(f"{certificates}/{file}"))
        written += 1
    return written


def draw_time_line(book: Book) -> Figure:
    """Draw what is kept and what is forgotten, along the lines of the ledger."""
    from closer_look.reporting.figures_of_erasure import time_line

    return time_line(book.lines())


def report_erasure(book: Book, time_line: Figure) -> str:
    """Show the ledger and its time line."""
    from closer_look.reporting.erasure_report import render_erasure

    return render_erasure(book.lines(), time_line)


def export_current(book: Book, models: ServedModels, export: ExportParameters) -> ExportedModel:
    """Prepare the current model to serve elsewhere, and write its model card."""
    from closer_look.erasure.current import load_current
    from closer_look.models.export import ExportedModel, prepare
    from closer_look.models.language_model import model_fingerprint
    from closer_look.reporting.erasure_card import erasure_card

    model = load_current(models, book.chain())
    is_separate = hasattr(model.model, "peft_config") and export.adapters == "separate"
    card = erasure_card(book.chain(), model_fingerprint(model), is_separate=is_separate)
    return ExportedModel(prepare(model, export), card)
