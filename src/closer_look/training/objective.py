"""The objective of a method: its losses on a batch, and the tensors that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence

from closer_look.losses import mean_over_positions
from closer_look.losses.loss import one_for_a_row
from closer_look.models.hidden_states import layer_states
from closer_look.models.packing import answer_logits, pack
from closer_look.models.tokens import IGNORED, Tokens, encode

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from closer_look.losses import Loss
    from closer_look.models.output_head import OutputHead
    from closer_look.models.tokens import Batch
    from closer_look.parameters.methods import LossParameters, MethodParameters
    from closer_look.training.reference_scores import ReferenceScores

SIDES = ("forget", "retain")
# A row's question can go with four texts: its own answer, a refusal, another row's answer, or an
# alternate answer. The prefix tells whose tensors a loss asks for: `logits` and `labels` have none
# and are the answer's, `idk_logits` are the refusal's, and so on.
ANSWER, REFUSAL, MISMATCH, ALTERNATE = "", "idk_", "mismatch_", "alternate_"
SCORED = (ANSWER, REFUSAL, ALTERNATE)
"""The texts whose nll under the reference losses may read."""


def texts_of(
    side: str, plan: pd.DataFrame, questions: pd.DataFrame
) -> tuple[list[str], dict[str, list[str]]]:
    """Return what the rows of a plan ask on one side, and the texts that may follow.

    Args:
        side: "forget" or "retain".
        plan: ``forget_row_id``, ``retain_row_id`` and ``refusal`` of each row, and ``alternate`` if
            there are alternate answers.
        questions: the questions table.

    Returns:
        The questions, and ``ANSWER``, ``REFUSAL``, ``MISMATCH`` and, if there are any,
        ``ALTERNATE`` -> a text for each of them.
    """
    by_id = questions.set_index("row_id")
    other = "retain" if side == "forget" else "forget"
    own, partners = (by_id.loc[plan[f"{one}_row_id"]] for one in (side, other))
    # A row's partner in the plan, of the other side, gives the mismatched answer.
    answers = {ANSWER: own["answer"], REFUSAL: plan["refusal"], MISMATCH: partners["answer"]}
    if "alternate" in plan:
        answers[ALTERNATE] = plan["alternate"]
    return list(own["question"]), {variant: list(texts) for variant, texts in answers.items()}


class LossTerm:
    """One of a method's losses, on the forget rows or on the retain rows."""

    def __init__(self, side: str, parameters: LossParameters, loss: Loss) -> None:
        self.side = side
        self.parameters = parameters
        self.function = loss.function
        self.inputs = loss.tensors
        self.count = loss.count
        every = (ANSWER, REFUSAL, MISMATCH, ALTERNATE)
        self.variants = [v for v in every if f"{v}labels" in self.inputs]
        self.reads_logits = "activations" not in self.inputs

    def encode(
        self,
        tokenizer: PreTrainedTokenizerBase,
        questions: Sequence[str],
        answers: Mapping[str, Sequence[str]],
    ) -> dict[str, list[Tokens]]:
        """Tokenise those of the texts (``ANSWER``, ``REFUSAL``, ...) that the loss reads."""
        read = [v for v in self.variants if v in answers]
        encoded = {v: encode(tokenizer, questions, answers[v]) for v in read}
        if self.parameters.positions == "question_and_answer":
            encoded = {v: [row.all_as_answer() for row in rows] for v, rows in encoded.items()}
        return encoded

    def counted(self, rows: Sequence[Mapping[str, object]]) -> list[int]:
        """Count what the loss averages over on rows: the rows, or the positions of each text."""
        if self.parameters.padded_length is not None:
            return [len(rows)]
        count = partial(self.count, **self.parameters.hyperparameters)
        of_texts = [
            [count(len(row[f"{self.side}_{v}tokens"].answer)) for row in rows]
            for v in self.variants
        ]
        if self.count is one_for_a_row:  # a row counts if all its texts do
            return [sum(map(min, zip(*of_texts, strict=True)))]
        return [sum(of_text) for of_text in of_texts]

    def __call__(
        self,
        tensors: Mapping[str, Tensor],
        n_rows: int,
        shares: Sequence[float],
        output_head: OutputHead | None = None,
    ) -> Tensor:
        """Compute what a batch adds to the loss of a step, a scalar in nats, without its weight.

        Args:
            tensors: name -> tensor for every name in ``inputs``; ``reference_states``, (n, hidden
                size), stand in for ``reference_logits``.
            n_rows: rows of the batch.
            shares: parts of what is ``counted`` on the step that are the batch's; 1 if it is the
                whole step.
            output_head: turns the states into the reference's logits.
        """
        if len(shares) == 1:
            return shares[0] * self._of_batch(tensors, n_rows, output_head)
        return sum(
            share * self._of_batch(self._alone(variant, tensors), n_rows, output_head)
            for variant, share in zip(self.variants, shares, strict=True)
        )

    def _alone(self, variant: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Leave the labels of one text; without any, the loss of the others is 0."""
        empty = {f"{v}logits": tensors[f"{v}logits"][:0] for v in self.variants if v != variant}
        no_labels = {
            f"{v}labels": torch.full_like(tensors[f"{v}labels"], IGNORED)
            for v in self.variants
            if v != variant
        }
        return {**tensors, **empty, **no_labels}

    def _of_batch(
        self, tensors: Mapping[str, Tensor], n_rows: int, output_head: OutputHead | None
    ) -> Tensor:
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
    """A method's losses on its rows, and everything that they read.

    A batch holds one block of rows for each text that a loss reads, for example forget answers,
    forget refusals and retain answers. All blocks go through the model in one forward pass, or two
    if one loss reads logits and another hidden states.
    """

    def __init__(self, method: MethodParameters, seed: int = 0) -> None:
        """Set up.

        Args:
            method: its losses.
            seed: of the direction of the control vector.
        """
        self.terms = [
            LossTerm(side, getattr(method, side), loss) for side, loss in method.losses.items()
        ]
        self.activations = method.activations
        self.seed = seed
        blocks = [(term, v) for term in self.terms for v in term.variants]
        self.blocks = [(term, v) for term, v in blocks if term.reads_logits]
        self.layer_blocks = [(term, v) for term, v in blocks if not term.reads_logits]

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
            plan: see ``texts_of``.
            questions: the questions table.
            reference_scores: the scores of the frozen reference that the losses read.

        Returns:
            One item per row of the plan: its row ids, the tokens of its blocks, and its scores.
        """
        columns: dict[str, Sequence[object]] = {}
        for term in self.terms:
            ids = plan[f"{term.side}_row_id"]
            columns[f"{term.side}_name"] = list(ids)
            asked, texts = texts_of(term.side, plan, questions)
            for variant, rows in term.encode(tokenizer, asked, texts).items():
                columns[f"{term.side}_{variant}tokens"] = rows
            nll = reference_scores.nll.set_index(["row_id", "text"])["nll"]
            for variant in SCORED:
                name = f"reference_{variant}nll"
                if name in term.inputs:
                    keys = zip(ids, texts[variant], strict=True)
                    columns[f"{term.side}_{name}"] = [nll[key] for key in keys]
            # (positions, hidden size) of a row: smaller than its logits, (positions, V)
            if "reference_logits" in term.inputs:
                states = reference_scores.hidden_states
                columns[f"{term.side}_reference_states"] = [states[i] for i in ids]
            if "reference_activations" in term.inputs:
                states = reference_scores.activations
                columns[f"{term.side}_reference_activations"] = [states[i] for i in ids]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def collate(
        self,
        rows: Sequence[Mapping[str, object]],
        step: Sequence[Mapping[str, object]] | None = None,
    ) -> Batch:
        """Pack the rows of items from ``encode``, and stack their reference scores.

        Args:
            rows: those of one pass.
            step: those of the whole step, whose mean the losses are; by default the same.

        Returns:
            What ``pack`` returns for the rows whose logits are read, block after block; the same
            under ``at_layer`` for those whose hidden states are read; and with the side before each
            name, as far as the losses read them, ``reference_nll``, ..., (rows,), and
            ``reference_states`` and ``reference_activations``, (positions, hidden size). ``shares``
            are, for each loss, the parts of the step that the rows are (see ``LossTerm``).
        """

        # The order of blocks, then rows, is the one in which ``losses`` splits the outputs.
        def tokens(blocks: Sequence[tuple[LossTerm, str]]) -> list[Tokens]:
            return [row[f"{term.side}_{v}tokens"] for term, v in blocks for row in rows]

        batch = pack(tokens(self.blocks)) if self.blocks else {}
        if self.layer_blocks:
            batch["at_layer"] = pack([row.one_later() for row in tokens(self.layer_blocks)])
        sides = [term.side for term in self.terms]
        batch["names"] = [row[f"{side}_name"] for row in rows for side in sides]
        batch["shares"] = [
            [n / max(of_step, 1) for n, of_step in zip(*counted, strict=True)]
            for counted in ((term.counted(rows), term.counted(step or rows)) for term in self.terms)
        ]
        for name in rows[0]:
            values = [row[name] for row in rows]
            if name.endswith("nll"):
                batch[name] = torch.tensor(values, dtype=torch.float32)
            elif "_reference_" in name:
                batch[name] = torch.cat(values)
        return batch

    def losses(
        self,
        model: PreTrainedModel,
        batch: Batch,
        output_head: OutputHead | None = None,
    ) -> dict[str, Tensor]:
        """Run the model on a batch and compute what it adds to each loss, without its weight.

        Args:
            model: the model that is trained.
            batch: a batch from ``collate``, on the model's device.
            output_head: the reference's, on the same device; needed if a loss reads
                ``reference_logits``.

        Returns:
            "forget_loss" and, if the method has one, "retain_loss", scalars in nats.
        """
        tensors = {
            term.side: {
                name.removeprefix(f"{term.side}_"): one
                for name, one in batch.items()
                if name.startswith(f"{term.side}_")
            }
            for term in self.terms
        }
        if self.blocks:
            self._split(tensors, self.blocks, answer_logits(model, batch), batch, "logits")
        if self.layer_blocks:
            rows = batch["at_layer"]
            states = layer_states(model, rows, self.activations.layer)
            self._split(tensors, self.layer_blocks, states, rows, "activations")
            vector = self.control_vector(states)
            for of_side in tensors.values():
                of_side["control_vector"] = vector
        n_rows = len(batch["names"]) // len(self.terms)
        return {
            f"{term.side}_loss": term(tensors[term.side], n_rows, shares, output_head)
            for term, shares in zip(self.terms, batch["shares"], strict=True)
        }

    @staticmethod
    def _split(
        tensors: dict[str, dict[str, Tensor]],
        blocks: Sequence[tuple[LossTerm, str]],
        outputs: Tensor,
        rows: Batch,
        name: str,
    ) -> None:
        """Give each block of rows its part of the outputs, (n, size), and its labels."""
        lengths = rows["answer_lengths"]  # of blocks x n_rows rows
        n_rows = len(lengths) // len(blocks)
        of_blocks = [lengths[i : i + n_rows] for i in range(0, len(lengths), n_rows)]
        sizes = [sum(of_block) for of_block in of_blocks]  # answer tokens of each block
        pieces = zip(outputs.split(sizes), rows["labels"].split(sizes), of_blocks, strict=True)
        for (term, variant), (of_block, labels, of_rows) in zip(blocks, pieces, strict=True):
            # Labels (n_rows, longest) tell losses over rows where rows end; outputs stay (size, V).
            padded = pad_sequence(labels.split(of_rows), batch_first=True, padding_value=IGNORED)
            tensors[term.side] |= {f"{variant}{name}": of_block, f"{variant}labels": padded}

    def control_vector(self, states: Tensor) -> Tensor:
        """Draw the direction to which hidden states are steered, (hidden size,).

        Uniform in [0, 1) for each of the ``states``' coordinates, as published, then made as long
        as ``steering_coefficient``.
        """
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.rand(states.shape[-1], generator=generator)
        scale = self.activations.steering_coefficient / drawn.norm()
        return (drawn * scale).to(states)
