"""Fixed texts of figures and the report.

The texts about losses and metrics are in the records of ``losses`` and ``metrics``.
"""

from __future__ import annotations

BEFORE_LABEL, RETAIN_ONLY_LABEL = "Before", "Retain-only"
SPLIT_LABELS = {
    "forget": "Forget set",
    "retain": "Retain set",
    "neighbour": "Neighbours",
    "real_authors": "Real authors",
    "world_facts": "World facts",
}

SPLIT_MEANINGS = {
    "forget": "what the model was asked to forget",
    "retain": "questions of the same kind that it should still answer",
    "neighbour": "people close to the forgotten ones, whom it should still know",
    "real_authors": "real authors, whom it should still know",
    "world_facts": "general knowledge that it should keep",
}

FIGURES = {
    "curves": (
        "Kept and forgotten, task by task",
        "Higher is better on both sides: on the left what the model still does well (MU), on the "
        "right how much of the task just unlearned is gone (FE). Whiskers are 95 % intervals. "
        "Colour and shape stand for what makes a method forget, filling and dashes for what makes "
        "it keep the rest; grey and dotted is the model before unlearning.",
    ),
    "forgetting_matrix": (
        "Does it stay forgotten?",
        "Each row is a task, each column a number of tasks unlearned (0 is before), each cell an "
        "FE. Read from left to right, a row should turn blue when its task is unlearned and stay "
        "blue; a cell that pales again is knowledge that came back. Empty cells are the future.",
    ),
    "trade_off": (
        "The price of forgetting",
        "The upper right corner is best. Each mark is the model after one more task, the largest "
        "is the last; FE is the mean over all tasks so far.",
    ),
    "metric_values": (
        "Every metric behind the two numbers",
        "Full grey stars are the model before unlearning, coloured marks the models after the last "
        "task. On the forget set, marks should move left (except for entropy); elsewhere they "
        "should not move. The forget set is the mean over its tasks.",
    ),
    "truth_ratios": (
        "Does it still know the truth when it sees it?",
        "The share of forgotten questions whose truth ratio is at most the value below. The truth "
        "ratio says how much likelier the model finds the true answer than wrong answers worded "
        "alike. A model that remembers is far to the right. Too far to the left is no better: a "
        "model that avoids the truth gives it away. After the last task, all forget sets together; "
        "a panel tells of how many rows, where some have no truth ratio.",
    ),
    "ranking": (
        "Who comes first, and how surely",
        "The score of each method, the best on top, with intervals of 95 %. A rank is one more "
        "than the number of methods whose whole interval is further right.",
    ),
    "pareto_fronts": (
        "What each method could have been",
        "A mark for each trial of tuning, on questions that no other number here is about: the "
        "upper right corner is best. The line joins trials that no other one beats in both MU and "
        "FE; stars are the settings that were chosen, diamonds the method's own. A dashed line is "
        "the MU that the choice had to keep, where it had to.",
    ),
    "attack_map": (
        "What each attack gets back",
        "The share of what the model knew before unlearning that an attack brings to light: 0 "
        "(blue) is nothing, 1 (red) is all of it. The first column is no attack. Of an attack with "
        "several strengths, the one that brings back most is shown.",
    ),
    "training_curves": (
        "How unlearning went",
        "In a method's own panel, the solid line is the forget loss and the dotted one the retain "
        "loss, if it has one, against optimiser steps through all tasks; vertical lines separate "
        "the tasks. Losses of different methods are not comparable.",
    ),
    "finetuning_curves": (
        "How the model had learned it",
        "The loss, against optimiser steps, should have fallen and levelled off: only what was "
        "known can be forgotten.",
    ),
}

AIDS_OF_MANY = {
    "curves": "A panel for each method, and higher is better for both lines: MU is what the model "
    "still does well, FE how much of the task just unlearned is gone. Whiskers are 95 % intervals.",
    "trade_off": "The upper right corner is best. Each mark is the model after the last task; FE "
    "is the mean over all tasks. The legend begins with the best, by the mean of MU and FE; "
    "where marks crowd, some go without a name, and a click in the legend hides a method.",
    "metric_values": "A row for each model, after the last task. On the forget set, cells should "
    "be paler than in the row of the model before (except for entropy); elsewhere they should be "
    "as dark. The forget set is the mean over its tasks.",
}
"""In place of the aids above for more methods than share a panel."""

SEED_AIDS = {
    "ranking": "The thick bar is what other questions might have given, the whisker what other "
    "questions and other seeds might have given.",
    "curves": "Lines are means over seeds, whiskers are over questions, and each short stroke is "
    "a seed.",
    **dict.fromkeys(("trade_off", "forgetting_matrix", "metric_values"), "Means over seeds."),
    **dict.fromkeys(("truth_ratios", "training_curves"), "With the first seed."),
}
"""Added in a run with more than one seed."""
SEED_AIDS_OF_MANY = SEED_AIDS | {
    "curves": "Lines are means over seeds, and whiskers are over questions."
}

RETAIN_ONLY_AID = (
    "Hollow grey stars are a model that was never trained on what is forgotten, which is where "
    "unlearning should arrive."
)
RETAIN_ONLY_RATIOS_AID = (
    "Dashed grey is a model that was never trained on what is forgotten, which is where unlearning "
    "should arrive. p is the p-value of the Kolmogorov-Smirnov test against it; above 0.05 the "
    "test cannot tell the two apart."
)
SHOW_RETAIN_ONLY = ("curves", "trade_off", "metric_values")
SHOW_RETAIN_ONLY_OF_MANY = ("trade_off",)  # the others name it where it stands

RETAIN_ONLY_MODELS = {
    "finetuned": "It is compared with a retain-only model, trained in the same way, but never on "
    "what is to be forgotten",
    "pretrained": "It is compared with a retain-only model, {pretrained}, which was never trained "
    "on what is to be forgotten",
    "scores": "Its forget quality compares with stored scores of a retain-only model, which was "
    "never trained on what is to be forgotten",
}

SUMMARIES = {
    "model_utility": "model utility",
    "forget_efficacy": "forget efficacy",
    "forget_quality": "forget quality",
    "tofu_model_utility": "TOFU's utility",
}

JUDGES = {"embedder": "The embedding model", "entailment": "The entailment model"}

SPLITS_IN_A_SENTENCE = {
    "forget": "the forget set",
    "retain": "the retain set",
    "neighbour": "neighbours",
    "real_authors": "real authors",
    "world_facts": "world facts",
}

NO_FORGET_QUALITY = (
    "Forget Quality, the test whether the model can be told from one that never saw the "
    "forget set: it needs a second model trained without that set, and this run has none."
)
NO_BENCHMARKS = (
    "General benchmarks (lm-evaluation-harness) were not run: whether the model still reasons, "
    "calculates and follows a text as before is not known."
)
NO_MEMBERSHIP = (
    "Membership inference: whether one can tell that the rows were once trained on "
    "(experiment.membership)."
)
MEMBERSHIP = {
    "loss": ("Loss", "how unlikely the model finds the true answer, per word piece"),
    "zlib": ("Zlib", "the same, in relation to how well the answer can be compressed"),
    "reference": ("Reference", "the same, compared with the retain-only model"),
    "min_k": (
        "Min-K%",
        "how unlikely it finds those 40 % of the word pieces that surprise it most",
    ),
    "min_k_plus_plus": (
        "Min-K%++",
        "the same, in relation to the other word pieces that it might have put there",
    ),
}
"""Scores of membership inference: label and meaning."""

NO_ATTACKS = (
    "Attacks that bring knowledge back: fine-tuning on a few forgotten rows (relearning), "
    "quantisation, reading the model's inner states, hints and role play in the prompt.",
    "Questions in other words or another language than those listed above, and whether a fact "
    "leaks in answers to other questions.",
    "Sampled answers: each question was answered once, with the likeliest word at each step.",
)
OTHER_ATTACKS = (
    "Attacks other than those above, and stronger ones: what no attack here got back may still be "
    "there.",
)
NEVER_MEASURED = (
    "Other runs: intervals say how much a number hangs on the questions that were asked; another "
    "seed of training may differ by more.",
)
OTHER_TARGET_MODELS = (
    "Other target models: all seeds started from the same one, and a model trained anew may differ "
    "by more.",
)
"""In place of the last in a run with seeds."""
