"""Serving requests to forget: from what is pending to lines of the ledger.

The results of a decision are on the disk before its line is, and the model's folder is whole before
the line that makes it current. So a process that is killed leaves the old model current or the new
one, and each request decided or pending.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from closer_look.data.questions import rows_to_evaluate
from closer_look.erasure import gate
from closer_look.erasure.candidates import REQUEST, Measured, Settings, measure, unlearn
from closer_look.erasure.current import Models, load_current
from closer_look.erasure.requests import Checked, in_conflict
from closer_look.erasure.residual import check_attacks, residual_knowledge
from closer_look.erasure.rollback import roll_back
from closer_look.erasure.rows import choose_to_recheck, stack, without_forgotten
from closer_look.erasure.statement import files_digest
from closer_look.erasure.verification import model_files
from closer_look.models.language_model import model_fingerprint

if TYPE_CHECKING:
    from closer_look.erasure.book import Book
    from closer_look.erasure.chain import Chain
    from closer_look.erasure.inbox import Inbox
    from closer_look.erasure.ledger import Line
    from closer_look.models.language_model import LanguageModel
    from closer_look.parameters.base import Parameters
    from closer_look.parameters.erasure import AttemptParameters

NOTHING_LEFT = "no row to retain is left that neither asks the same nor is of its subject"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """All that serving works with.

    Attributes:
        book: the ledger and the results.
        models: the models of the chain.
        checkpoints: folder of a training's checkpoints, on this machine.
        retained: rows to retain, as in the questions table.
        refusals: refusal sentences.
        settings: the parameters.
        code_version: for the ledger.
    """

    book: Book
    models: Models
    checkpoints: Path
    retained: pd.DataFrame
    refusals: Sequence[str]
    settings: Settings
    code_version: str

    def serve(self, inbox: Inbox) -> None:
        """Serve what is pending.

        Raises:
            InputError: the current model is not what the ledger names, or a parameter is at fault.
        """
        for attempt in self.settings.erasure.attempts:
            self.settings.of(attempt)  # which checks it, before any work
        check_attacks(self.settings)
        self.book.finish_batch()
        self._requeue()
        if self.settings.erasure.rollback_to:
            present = {one.request_id for one in inbox.new} | inbox.decided.keys()
            roll_back(self.book, self.models, self.settings.erasure.rollback_to, present)
            return
        self.book.set_aside(inbox.faulty)
        pending = self._pending(inbox)
        if not pending:
            log.info("No request is pending: nothing is to be done")
            return
        decided = dict(inbox.decided)
        for group in self._groups(pending):
            self._serve_group(group, decided)
            decided |= {one.request_id: one for one in group}

    def _requeue(self) -> None:
        if self.settings.erasure.recheck:
            self.book.requeue()

    def _pending(self, inbox: Inbox) -> list[Checked]:
        """List the requests for which there is something to try, the oldest first."""
        decided = self.book.chain().decided
        found = []
        for one in inbox.new:
            line = decided.get(one.request_id)
            if line and line.kind != "failed":
                continue  # its batch was finished after the inbox was read
            if self._untried(line):
                found.append(one)
            else:
                log.warning("Request %s has failed: %s", one.request_id, line.reason)
        return found

    def _groups(self, pending: Sequence[Checked]) -> list[list[Checked]]:
        """Put requests together that are served together: those with the same left to try."""
        if self.settings.erasure.batch == "each":
            return [[one] for one in pending]
        decided = self.book.chain().decided
        groups: dict[tuple[AttemptParameters, ...], list[Checked]] = {}
        for one in pending:
            untried = self._untried(decided.get(one.request_id))
            groups.setdefault(tuple(untried), []).append(one)
        return [*groups.values()]

    def _untried(self, failed: Line | None) -> list[AttemptParameters]:
        """List the attempts that have not failed for a request under the present gate."""
        erasure = self.settings.erasure
        tried = []
        if failed and failed.parameters["gate"] == gate.bounds(erasure):
            tried = [attempt["tried"] for attempt in failed.attempts]
        return [one for one in erasure.attempts if self._named(one) not in tried]

    def _named(self, attempt: AttemptParameters) -> dict[str, Any]:
        """Return what an attempt tries, as it stands in the ledger."""
        return attempt.model_dump() | {"method": attempt.method or self.settings.erasure.method}

    def _serve_group(self, group: Sequence[Checked], earlier: dict[str, Checked]) -> None:
        """Serve requests together.

        Args:
            group: the requests.
            earlier: files of those that are decided already.
        """
        group, retained = self._without_conflicts(group)
        if not group:
            return
        chain, lines = self.book.chain(), self.book.lines()
        held = [load_current(self.models, chain)]
        common = {
            "model_before": model_fingerprint(held[0]),
            "results": self.book.next_folder(),
            "code_version": self.code_version,
        }
        forget_set = self.settings.forget_set
        to_retain = rows_to_evaluate(
            retained, forget_set.evaluation_rows, forget_set.evaluated_splits
        )
        rows = stack(to_retain, [one.questions for one in group])
        before = measure(held[0], rows, self.settings)
        self.book.keep(f"{common['results']}/before", before.tables)
        numbers = {one.request_id: before.of(task) for task, one in enumerate(group, start=REQUEST)}
        known = [one for one in group if numbers[one.request_id]["known"]["value"]]
        for one in group:
            if one not in known:
                self._not_known(one, numbers[one.request_id], common)
        if known:
            present = {name: one for name, one in earlier.items() if name in chain.decided}
            again = choose_to_recheck(present, lines, self.settings.erasure.recheck_rows)
            table = before.tables["row_metrics"]
            work = _Work(known, retained, to_retain, again, numbers, table, common)
            self._attempt(work, chain, held)

    def _not_known(self, one: Checked, before: dict[str, Any], common: dict[str, Any]) -> None:
        n_rows = before["known"]["n_rows"]
        fields = {"numbers": {"before": before}, "parameters": self._parameters()}
        fields["reason"] = f"the model answers none of its {n_rows} rows: nothing was trained"
        self.book.decide("not_known", one, common | fields)

    def _attempt(self, work: _Work, chain: Chain, held: list[LanguageModel]) -> None:
        """Try one setting after another, until a candidate passes the gate."""
        failed = {one.request_id: chain.decided.get(one.request_id) for one in work.group}
        tried = {name: [*line.attempts] if line else [] for name, line in failed.items()}
        questions = pd.concat(
            [work.retained, *(one.questions for one in work.group)], ignore_index=True
        )
        folder, reasons = work.common["results"], []
        for place, attempt in enumerate(self._untried(failed[work.group[0].request_id])):
            # Taken out: while the next attempt reads it again, nobody holds this one.
            model = held.pop() if held else load_current(self.models, chain)
            candidate, training_log = unlearn(
                model,
                questions,
                self.refusals,
                attempt,
                self.settings,
                int(folder),
                self.checkpoints,
            )
            after = measure(candidate, work.evaluated(), self.settings)
            residual = self._residual(candidate, chain, work, after)
            tables = work.without_rechecked(after.tables) | {"training_log": training_log}
            self.book.keep(f"{folder}/attempt_{place + 1}", tables)
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            numbers = {
                one.request_id: {
                    "before": work.before[one.request_id],
                    "after": after.of(task) | residual,
                }
                for task, one in enumerate(work.group, start=REQUEST)
            }
            reasons = self._rejections(numbers)
            of_all = {name: of["after"] for name, of in numbers.items()}
            outcome = {"tried": self._named(attempt), "rejected": reasons, "numbers": of_all}
            for of in tried.values():
                of.append(outcome)
            if not reasons:
                again = self._rechecked(work, after)
                self._accept(work, candidate, attempt, numbers, tried, again)
                return
            log.warning("Attempt %d is rejected: %s", place + 1, "; ".join(reasons))
            del candidate, model  # before another is read
        for one in work.group:
            fields = {"numbers": {"before": work.before[one.request_id]}}
            fields |= {"attempts": tried[one.request_id], "reason": "; ".join(reasons)}
            fields |= {"parameters": self._parameters()}
            self.book.decide("failed", one, work.common | fields)

    def _residual(
        self, candidate: LanguageModel, chain: Chain, work: _Work, after: Measured
    ) -> dict[str, Any]:
        """Attack a candidate, if the gate asks for it."""
        if self.settings.erasure.max_residual_knowledge is None:
            return {}
        questions = stack(work.retained, [one.questions for one in work.group])
        tables = work.row_metrics, after.tables["row_metrics"]
        load = partial(load_current, self.models, chain)
        found = residual_knowledge(candidate, load, questions, tables, self.settings)
        return {"residual_knowledge": found}

    def _rejections(self, numbers: dict[str, dict[str, Any]]) -> list[str]:
        """Say why a candidate must not become current: it must pass for each request."""
        found = []
        for request_id, of in numbers.items():
            reasons = gate.rejections(of["before"], of["after"], self.settings.erasure)
            found += [f"{request_id}: {one}" if len(numbers) > 1 else one for one in reasons]
        return found

    def _rechecked(self, work: _Work, after: Measured) -> list[dict[str, Any]]:
        """List what came back of earlier requests."""
        bound = self.settings.erasure.min_forget_efficacy
        found = []
        for task, request_id in enumerate(work.again, start=REQUEST + len(work.group)):
            efficacy = after.forget_efficacy[task]
            came_back = efficacy is not None and efficacy["value"] < bound
            found.append(
                {"request_id": request_id, "forget_efficacy": efficacy, "came_back": came_back}
            )
        return found

    def _accept(
        self,
        work: _Work,
        candidate: LanguageModel,
        attempt: AttemptParameters,
        numbers: dict[str, Any],
        tried: dict[str, list[dict[str, Any]]],
        again: list[dict[str, Any]],
    ) -> None:
        """Save a candidate, and make it current with the first line of its requests."""
        after_sha256 = model_fingerprint(candidate)
        self.models.save(after_sha256, candidate)
        method, training = self.settings.of(attempt)
        fields = {
            "model_after": after_sha256,
            "files_sha256": files_digest(model_files(self.models.place(after_sha256))),
            "method": method.label,
            "parameters": self._parameters()
            | {"method": _plain(method), "unlearning": _plain(training)},
            "rechecked": again,
            "reason": "every bound of the gate holds",
        }
        own = {name: {"numbers": of, "attempts": tried[name]} for name, of in numbers.items()}
        self.book.serve(work.group, own, work.common | fields)
        self._requeue()

    def _parameters(self) -> dict[str, Any]:
        return {"gate": gate.bounds(self.settings.erasure)}

    def _without_conflicts(self, group: Sequence[Checked]) -> tuple[list[Checked], pd.DataFrame]:
        """Leave out rows to retain that requests are about, or requests that are about such rows.

        Returns:
            The requests that can be served, and the rows to retain.
        """
        left = without_forgotten(self.retained, self.book.lines(), self.book.salt)
        kept, served = left, []
        for one in group:
            same = in_conflict(one.questions, one.request.subjects, left)
            names = ", ".join(left.loc[same, "row_id"])
            reason = None
            if same.any() and self.settings.erasure.on_conflict == "refuse":
                reason = (
                    f"{same.sum()} rows to retain ask the same or are of its subject; "
                    f"erasure.on_conflict: drop_retain leaves them out"
                )
            elif not len(remaining := kept[~same.reindex(kept.index)]):
                reason = NOTHING_LEFT
            if reason:
                fault = f"{reason} ({names})"
                self.book.set_aside([one._replace(faults=(fault,), reason=reason)])
                continue
            if same.any():
                log.warning("Request %s: left out rows to retain: %s", one.request_id, names)
            kept = remaining
            served.append(one)
        return served, kept


def _plain(parameters: Parameters) -> dict[str, Any]:
    return parameters.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True)
class _Work:
    """Requests that are served together, and what is known of them.

    Attributes:
        group: the requests.
        retained: rows to retain.
        to_retain: those of them that are evaluated.
        again: earlier requests whose rows are asked again.
        before: request -> numbers of the current model.
        row_metrics: of the current model.
        common: fields of their lines.
    """

    group: Sequence[Checked]
    retained: pd.DataFrame
    to_retain: pd.DataFrame
    again: dict[str, pd.DataFrame]
    before: dict[str, dict[str, Any]]
    row_metrics: pd.DataFrame
    common: dict[str, Any]

    def without_rechecked(self, tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        """Leave out rows of earlier requests: their texts would outlive them."""
        last = REQUEST + len(self.group) - 1
        return {name: table[table["task_id"] <= last] for name, table in tables.items()}

    def evaluated(self) -> pd.DataFrame:
        """Stack the rows to ask a candidate."""
        return stack(self.to_retain, [*(one.questions for one in self.group), *self.again.values()])
