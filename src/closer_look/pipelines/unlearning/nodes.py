"""Nodes of the unlearning stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from closer_look.data.planning import plan_of_task
from closer_look.data.questions import name_subjects
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.base import depends_on, ignores, spreads
from closer_look.parameters.evaluation import GenerationParameters
from closer_look.parameters.experiment import ForgetSetParameters
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.training.reference_scores import ReferenceScores


@spreads("unlearning")
@ignores(method=("label", "space"))
def unlearn(
    previous_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    reference_scores: ReferenceScores,
    method: MethodParameters,
    unlearning: UnlearningParameters,
    training_checkpoints: Path,
    alternates: pd.DataFrame | None = None,
    seed: int | None = None,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Unlearn a task's rows, starting from the model after the previous task."""
    from closer_look.training.alternates import with_alternates
    from closer_look.training.unlearning import unlearn as train

    if alternates is not None:
        plan = with_alternates(plan, alternates)
    return train(
        previous_model,
        plan,
        questions,
        reference_scores,
        method,
        unlearning.with_seed(seed),
        training_checkpoints,
        description=f"Unlearning with {method.label}",
    )


@ignores(method=("label", "space"))
def instruct(
    target_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    method: MethodParameters,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Tell the target model not to speak of the subjects of this task and those before it."""
    from closer_look.models.instruction import instruct as write
    from closer_look.training.trainer import NO_STEPS

    (task_id,) = questions.set_index("row_id").loc[plan["forget_row_id"], "task_id"].unique()
    rows = questions[questions["task_id"] <= task_id]
    return write(target_model, name_subjects(method.instruction, rows)), NO_STEPS


@depends_on(method=("epochs",), forget_set=("pairing", "seed"))
def draw_own_plan(
    questions: pd.DataFrame,
    refusals: list[str],
    plan: pd.DataFrame,
    forget_set: ForgetSetParameters,
    method: MethodParameters,
    seed: int | None = None,
) -> pd.DataFrame:
    """Draw the plan of a method with epochs of its own; it shares its first epochs with others."""
    (task_id,) = questions.set_index("row_id").loc[plan["forget_row_id"], "task_id"].unique()
    return plan_of_task(
        questions,
        refusals,
        task_id,
        epochs=method.epochs,
        pairing=forget_set.pairing,
        seed=forget_set.seed if seed is None else seed,
    )


@depends_on(method=("alternates",), unlearning=("seed",))
def sample_alternates(
    target_model: LanguageModel,
    questions: pd.DataFrame,
    method: MethodParameters,
    unlearning: UnlearningParameters,
    generation: GenerationParameters,
    seed: int | None = None,
    **plans: pd.DataFrame,
) -> pd.DataFrame:
    """Let the target model itself make alternate answers to the questions to forget."""
    from closer_look.training.alternates import make_alternates

    to_forget = pd.concat(plan["forget_row_id"] for plan in plans.values())
    rows = questions[questions["row_id"].isin(to_forget)]
    return make_alternates(
        target_model,
        rows,
        method.alternates,
        generation.max_length,
        unlearning.seed if seed is None else seed,
    )
