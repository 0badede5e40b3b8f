"""Tuning: the settings of a method that are best on validation rows."""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import harmonic_mean
from typing import TYPE_CHECKING

import pandas as pd

from closer_look import metrics
from closer_look.data.planning import plan_of_task
from closer_look.errors import InputError
from closer_look.evaluation.measurement import measure
from closer_look.evaluation.study import Look, Outcome, run_study
from closer_look.inference.scoring import score
from closer_look.models.language_model import LanguageModel
from closer_look.models.model_folder import local_folder
from closer_look.parameters.evaluation import (
    GenerationParameters,
    JudgesParameters,
    ScoringParameters,
)
from closer_look.parameters.methods import MethodParameters, settings_of
from closer_look.parameters.training import UnlearningParameters
from closer_look.parameters.tuning import TuningParameters, own_values, search_space
from closer_look.system.code import code_fingerprint, code_hash
from closer_look.system.fingerprints import fingerprint
from closer_look.system.memory import out_of_memory_ends_the_run
from closer_look.training.alternates import make_alternates, with_alternates
from closer_look.training.checkpoints import training_folder, training_key
from closer_look.training.reference import NO_CACHE, reference_scores
from closer_look.training.reference_scores import ReferenceCache
from closer_look.training.unlearning import unlearn

if TYPE_CHECKING:
    import torch

    from closer_look.parameters.space import Value


@dataclass(frozen=True)
class TuningContext:
    """What trials know of the run.

    Attributes:
        questions: the run's whole questions table.
        refusals: sentences with which a question is declined.
        reference: what the frozen reference of a task is, see ``Experiment``.
        pairing: of forget rows with others, see ``ForgetSetParameters``.
        unlearning: settings that the methods of the run share.
        generation: settings of greedy decoding.
        scoring: settings of scoring.
        judges: judges of the answers.
        tuning: budget, objective and seed.
        n_tasks: tasks that a trial unlearns.
        cache: of reference scores.
    """

    questions: pd.DataFrame
    refusals: list[str]
    reference: str
    pairing: str
    unlearning: UnlearningParameters
    generation: GenerationParameters
    scoring: ScoringParameters
    judges: JudgesParameters
    tuning: TuningParameters
    n_tasks: int
    cache: ReferenceCache

    @property
    def determining(self) -> tuple[object, ...]:
        """All on which a trial's result depends; not how many trials there are."""
        return (
            self.refusals,
            self.reference,
            self.pairing,
            self.unlearning.model_dump(exclude={"seed"}),
            self.can_look,
            *(one.model_dump() for one in (self.generation, self.scoring, self.judges)),
            self.tuning.model_dump(exclude={"trials", "n_tasks"}),
            self.n_tasks,
            *(fingerprint([folder]).sha256 for folder in self._judges),
            metadata.version("optuna"),
        )

    @property
    def can_look(self) -> bool:
        """Whether trainings can be looked at halfway: those that this process itself computes."""
        return self.unlearning.workers == 1

    @property
    def _judges(self) -> list[str]:
        """List the folders of the judges that are on this machine."""
        names = filter(None, (self.judges.embedder, self.judges.entailment))
        return [folder for name in names if (folder := local_folder(name)) is not None]


def tune(
    target: LanguageModel,
    validation: pd.DataFrame,
    method: MethodParameters,
    context: TuningContext,
    studies: Path,
) -> tuple[MethodParameters, pd.DataFrame]:
    """Find the settings with which a method does best on validation rows.

    A trial unlearns the first tasks, starting from a copy of the target model, and is measured on
    validation rows of these tasks and of all sets to retain. Nothing else is looked at. Plans and
    training are drawn from ``tuning.seed``.

    Args:
        target: the model to unlearn from; it stays as it is.
        validation: rows of the questions table that no result of the run is reported on.
        method: one that trains.
        context: what else a trial needs.
        studies: holds the study, which a run that was killed takes up again; a study of other
            settings, rows or code is deleted.

    Returns:
        The method with the best settings, all of them its own, and the trials (see
        ``study.run_study``).

    Raises:
        InputError: the space does not fit the method (see ``search_space``), or all trials fail.
    """
    tuning = context.tuning
    space = search_space(method, context.unlearning, tuning)
    settings = settings_of(method, context.unlearning)
    whole = method.with_values({"learning_rate": settings.learning_rate, "epochs": settings.epochs})
    rows = validation[validation["task_id"] <= context.n_tasks].reset_index(drop=True)
    longest = max(space["epochs"].points) if "epochs" in space else settings.epochs
    plans = list(_plans(target, method, context, longest))
    before, known = _outcome(target, rows, context), _known(target, rows, context)
    asked = context.questions.to_dict("records") + rows.to_dict("records")
    code = code_fingerprint(tune), *map(code_hash, method.named_code.values())
    described = method.model_dump(exclude={"label"}), *context.determining
    key = partial(training_key, target, asked, *code, *described)
    device = target.model.device
    target.model.to("cpu")  # beside the copies that are trained, it would take their memory
    with training_folder(studies, key) as folder:
        best, trials = run_study(
            folder,
            space,
            own_values(method, context.unlearning, space),
            partial(_attempt, target, device, plans, rows, known, whole, context),
            least_utility=tuning.min_utility * before.model_utility,
            tuning=tuning,
            label=method.label,
        )
    target.model.to(device)
    return whole.with_values(best), trials


def _plans(
    target: LanguageModel,
    method: MethodParameters,
    context: TuningContext,
    longest: int,
) -> Iterator[pd.DataFrame]:
    """Draw the plan of each task for the longest training; shorter ones have its first epochs."""
    tuning = context.tuning
    for task_id in range(1, context.n_tasks + 1):
        plan = plan_of_task(
            context.questions,
            context.refusals,
            task_id,
            epochs=longest,
            pairing=context.pairing,
            seed=tuning.seed,
        )
        if method.alternates:
            to_forget = context.questions["row_id"].isin(plan["forget_row_id"])
            alternates = make_alternates(
                target,
                context.questions[to_forget],
                method.alternates,
                context.generation.max_length,
                tuning.seed,
            )
            plan = with_alternates(plan, alternates)
        yield plan


def _attempt(
    target: LanguageModel,
    device: torch.device,
    plans: Sequence[pd.DataFrame],
    rows: pd.DataFrame,
    known: Mapping[str, float],
    method: MethodParameters,
    context: TuningContext,
    values: Mapping[str, Value],
    look: Look,
) -> Outcome:
    """Unlearn with these values, and measure what has come of it.

    The trial is looked at halfway through the first task, and after each but the last.
    """
    method = method.with_values(values)
    own = {"seed": context.tuning.seed, "report_to": ()}  # a tracker shows the run, not its trials
    unlearning = context.unlearning.model_copy(update=own)
    gc.collect()  # a model trained in bf16 is a reference cycle; free that of the trial before
    with out_of_memory_ends_the_run("the weights of a trial", beside="what is on it"):
        model = LanguageModel(copy.deepcopy(target.model).to(device), target.tokenizer)

    def stand(step: int, trained: LanguageModel) -> None:
        look(step, _standing(known, _known(trained, rows, context), context.tuning))

    def halfway(trained: LanguageModel, epoch: int) -> None:
        if epoch == math.ceil(method.epochs / 2):
            stand(0, trained)

    can_look = context.can_look and method.task_vector_scale is None
    # Against the target model, all scores are taken before it changes; else each in its turn.
    scored = (
        reference_scores(
            model,
            plan,
            context.questions,
            method,
            context.scoring.batch_size,
            context.cache if number == 0 or context.reference == "first" else NO_CACHE,
        )
        for number, plan in enumerate(plans)
    )
    if context.reference == "first":
        scored = list(scored)
    for number, (plan, scores) in enumerate(zip(plans, scored, strict=True)):
        model, _ = unlearn(
            model,
            plan,
            context.questions,
            scores,
            method,
            unlearning,
            description=f"Tuning {method.label}",
            after_epoch=halfway if can_look and number == 0 else None,
        )
        if (n_done := number + 1) < len(plans):
            stand(n_done, model)
    if not all(weight.isfinite().all() for weight in model.model.parameters()):
        raise InputError("the weights are not finite")
    return _outcome(model, rows, context)


def _outcome(model: LanguageModel, rows: pd.DataFrame, context: TuningContext) -> Outcome:
    measured = measure(model, rows, context.scoring, context.generation, context.judges)
    summary = metrics.summarise(measured, n_resamples=1).groupby("metric")["value"].mean()
    return Outcome(summary["model_utility"], summary["forget_efficacy"])


def _known(model: LanguageModel, rows: pd.DataFrame, context: TuningContext) -> dict[str, float]:
    """Compute the mean probability of the true answers, of the forget set and of all others."""
    answers = list(rows["gold_answer"])
    scores = score(model, list(rows["question"]), answers, context.scoring.batch_size)
    known = pd.Series(metrics.probability(scores["nll"], scores["n_tokens"]))
    of_splits = known.groupby(rows["split"]).mean()
    return {"forget": of_splits["forget"], "retain": of_splits.drop("forget").mean()}


def _standing(
    before: Mapping[str, float], now: Mapping[str, float], tuning: TuningParameters
) -> float:
    """Tell how well a training does halfway, from probabilities alone, by the objective.

    What has kept too little comes after all that has kept enough.
    """
    kept, forgotten = now["retain"] / before["retain"], 1 - now["forget"]
    if tuning.objective == "harmonic_mean":
        return harmonic_mean([kept, forgotten])
    return forgotten if kept >= tuning.min_utility else kept - tuning.min_utility
