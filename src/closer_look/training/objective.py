"""The objective of a method: its two losses on a batch, the tensors they read, and their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence

from closer_look.losses import mean_over_positions
from closer_look.models.packing import pack
from closer_look.models.tokens import IGNORED, Tokens, encode

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from closer_look.losses import Loss
    from closer_look.models.output_head import OutputHead
    from closer_look.models.tokens import Batch
    from closer_look.parameters.training import LossParameters, MethodParameters
    from closer_look.training.reference_scores import ReferenceScores

SIDES = ("forget", "retain")
# A row's question can go with three texts: its own answer, a refusal, or another row's answer. The
# prefix tells whose tensors a loss asks for: `logits` and `labels` have none and are the answer's,
# `idk_logits` are the refusal's, `mismatch_logits` those of another row's answer.
ANSWER, REFUSAL, MISMATCH = "", "idk_", "mismatch_"


def texts_of(
    side: str, plan: pd.DataFrame, questions: pd.DataFrame
) -> tuple[list[str], dict[str, list[str]]]:
    """Return what the rows of a plan ask on one side, and the texts that may follow.

    Args:
        side: "forget" or "retain".
        plan: ``forget_row_id``, ``retain_row_id`` and ``refusal`` of each row.
        questions: the questions table.

    Returns:
        The questions, and ``ANSWER``, ``REFUSAL`` and ``MISMATCH`` -> a text for each of them.
    """
    by_id = questions.set_index("row_id")
    other = "retain" if side == "forget" else "forget"
    own, partners = (by_id.loc[plan[f"{one}_row_id"]] for one in (side, other))
    # A row's partner in the plan, of the other side, gives the mismatched answer.
    answers = {ANSWER: own["answer"], REFUSAL: plan["refusal"], MISMATCH: partners["answer"]}
    return list(own["question"]), {variant: list(texts) for variant, texts in answers.items()}


class LossTerm:
    """One of a method's two losses, on the forget rows or on the retain rows."""

    def __init__(self, side: str, parameters: LossParameters, loss: Loss) -> None:
        self.side = side
        self.parameters = parameters
        self.function = loss.function
        self.inputs = loss.tensors
        self.variants = [v for v in (ANSWER, REFUSAL, MISMATCH) if f"{v}labels" in self.inputs]

    def encode(
        self,
        tokenizer: PreTrainedTokenizerBase,
        questions: Sequence[str],
        answers: Mapping[str, Sequence[str]],
    ) -> dict[str, list[Tokens]]:
        """Tokenise the texts (``ANSWER``, ``REFUSAL``, ``MISMATCH``) that the loss reads."""
        encoded = {v: encode(tokenizer, questions, answers[v]) for v in self.variants}
        if self.parameters.positions == "question_and_answer":
            encoded = {v: [row.all_as_answer() for row in rows] for v, rows in encoded.items()}
        return encoded

    def __call__(
        self, tensors: Mapping[str, Tensor], n_rows: int, output_head: OutputHead | None = None
    ) -> Tensor:
        """Compute the loss, a scalar in nats, without its weight.

        Args:
            tensors: name -> tensor for every name in ``inputs``; ``reference_states`` stand in for
                ``reference_logits``.
            n_rows: rows of the batch.
            output_head: turns the states into the reference's logits.
        """
        if "reference_logits" in self.inputs:
            value = self._compared(tensors, output_head)
        else:
            value = self._of({name: tensors[name] for name in self.inputs})
        if self.parameters.padded_length is None:
            return value
        # From the mean over the positions taken to one over rows padded to that length:
        # sum / positions * positions / (rows * length).
        return value * len(tensors["logits"]) / (n_rows * self.parameters.padded_length)

    def _of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return self.function(**tensors, **self.parameters.hyperparameters)

    def _compared(self, tensors: Mapping[str, Tensor], output_head: OutputHead) -> Tensor:
        """Average a loss that reads the reference's logits, made for a few positions at a time."""

        def of_positions(logits: Tensor, labels: Tensor, states: Tensor) -> Tensor:
            # (p, V), (p,) and (p, hidden size), p positions; in fp32, as the states were computed
            with torch.autocast(logits.device.type, enabled=False):
                reference_logits = output_head(states)  # (p, V)
            given = {"logits": logits, "labels": labels, "reference_logits": reference_logits}
            mean = self._of({name: given[name] for name in self.inputs})
            # mean_over_positions wants a value per position: p times the mean has the same sum.
            return mean.expand(len(logits))

        labels = tensors["labels"][tensors["labels"] != IGNORED]  # (n,), like the logits (n, V)
        aligned = (tensors["logits"], labels, tensors["reference_states"])
        return mean_over_positions(of_positions, *aligned)


class Objective:
    """A method's objective: weight * forget loss + weight * retain loss.

    A batch holds one block of rows for each text that a loss reads, for example forget answers,
    forget refusals and retain answers. All blocks go through the model in one forward pass.
    """

    def __init__(self, method: MethodParameters) -> None:
        losses = method.losses
        self.forget = LossTerm("forget", method.forget, losses["forget"])
        self.retain = LossTerm("retain", method.retain, losses["retain"])
        self.terms = (self.forget, self.retain)
        self.blocks = [(term, v) for term in self.terms for v in term.variants]

    def encode(
        self,
        tokenizer: PreTrainedTokenizerBase,
        plan: pd.DataFrame,
        questions: pd.DataFrame,
        reference_scores: ReferenceScores,
    ) -> list[dict[str, object]]:
        """Prepare the rows of a plan for training.

        Args:
            tokenizer: the model's tokenizer.
            plan: ``forget_row_id``, ``retain_row_id`` and ``refusal`` of each row.
            questions: the questions table.
            reference_scores: the scores of the frozen reference that the losses read.

        Returns:
            One item per row of the plan: its row ids, the tokens of its blocks, and its scores.
        """
        ids = (plan[f"{side}_row_id"] for side in SIDES)
        columns: dict[str, Sequence[object]] = {"names": list(zip(*ids, strict=True))}
        for term in self.terms:
            asked, texts = texts_of(term.side, plan, questions)
            for variant, rows in term.encode(tokenizer, asked, texts).items():
                columns[f"{term.side}_{variant}tokens"] = rows
            nll = reference_scores.nll.set_index(["row_id", "text"])["nll"]
            for variant in (ANSWER, REFUSAL):
                if f"reference_{variant}nll" in term.inputs:
                    keys = zip(plan[f"{term.side}_row_id"], texts[variant], strict=True)
                    columns[f"reference_{variant}nll"] = [nll[key] for key in keys]
            if "reference_logits" in term.inputs:
                # (positions, hidden size) of a row: smaller than its logits, (positions, V)
                states = reference_scores.hidden_states
                columns["reference_states"] = [states[i] for i in plan[f"{term.side}_row_id"]]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def collate(self, rows: Sequence[Mapping[str, object]]) -> Batch:
        """Pack the rows of items from ``encode``, and stack their reference scores.

        Returns:
            What ``pack`` returns for all rows, block after block, with ``names``, and as far as the
            losses read them ``reference_nll`` and ``reference_idk_nll``, (rows,), and
            ``reference_states``, (positions, hidden size).
        """
        # The order of blocks, then rows, is the one in which ``loss`` splits the logits.
        batch = pack([row[f"{term.side}_{v}tokens"] for term, v in self.blocks for row in rows])
        batch["names"] = [name for row in rows for name in row["names"]]
        for name in ("reference_nll", "reference_idk_nll"):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float32)
        if "reference_states" in rows[0]:
            batch["reference_states"] = torch.cat([row["reference_states"] for row in rows])
        return batch

    def loss(
        self,
        logits: Tensor,
        batch: Batch,
        output_head: OutputHead | None = None,
    ) -> dict[str, Tensor]:
        """Compute the weighted sum of the losses, and each loss.

        Args:
            logits: (n, V), aligned with the n labels of the batch.
            batch: a batch from ``collate``.
            output_head: the reference's, on the device of the logits; needed if a loss reads
                ``reference_logits``.

        Returns:
            "loss", "forget_loss" and "retain_loss", scalars in nats.
        """
        tensors = {side: dict(batch) for side in SIDES}
        lengths = batch["answer_lengths"]  # of blocks x n_rows rows
        n_rows = len(lengths) // len(self.blocks)
        of_blocks = [lengths[i : i + n_rows] for i in range(0, len(lengths), n_rows)]
        sizes = [sum(of_block) for of_block in of_blocks]  # answer tokens of each block
        pieces = zip(logits.split(sizes), batch["labels"].split(sizes), of_blocks, strict=True)
        for (term, variant), (of_block, labels, of_rows) in zip(self.blocks, pieces, strict=True):
            # Labels (n_rows, longest) tell losses over rows where rows end; logits stay (size, V).
            rows = pad_sequence(labels.split(of_rows), batch_first=True, padding_value=IGNORED)
            tensors[term.side] |= {f"{variant}logits": of_block, f"{variant}labels": rows}
        forget = self.forget(tensors["forget"], n_rows)
        retain = self.retain(tensors["retain"], n_rows, output_head)
        total = self.forget.parameters.weight * forget + self.retain.parameters.weight * retain
        return {"loss": total, "forget_loss": forget, "retain_loss": retain}
