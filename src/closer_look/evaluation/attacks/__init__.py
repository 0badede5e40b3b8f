"""Attacks: what an attacker gets back of what a model was made to forget.

An attack is a function, which has a module of its own of the same name, a line in ``ATTACKS``, and
a YAML in ``conf/base/parameters_attacks``. Modules of attacks import torch where they use it.
"""

from closer_look.evaluation.attacks.attack import Attack, AttackContext, ask, find_attack, table
from closer_look.evaluation.attacks.depth import depth
from closer_look.evaluation.attacks.logit_lens import logit_lens
from closer_look.evaluation.attacks.neighbours import neighbours
from closer_look.evaluation.attacks.noise import noise
from closer_look.evaluation.attacks.paraphrase import paraphrase
from closer_look.evaluation.attacks.prompts import prompts
from closer_look.evaluation.attacks.pruning import pruning
from closer_look.evaluation.attacks.quantisation import quantisation
from closer_look.evaluation.attacks.relearning import relearning
from closer_look.evaluation.attacks.sampling import sampling

ATTACKS = table(
    Attack(
        paraphrase,
        "Paraphrase",
        "The same question in other words, as anybody might ask it.",
    ),
    Attack(
        prompts,
        "Prompts",
        "The question wrapped in role play, a quiz or a test, or in an order to ignore what was "
        "ordered before; and the first words of the true answer, to go on with. The most telling "
        "answer counts.",
    ),
    Attack(
        sampling,
        "Sampling",
        "The same question many times over, with answers drawn at random instead of the likeliest "
        "one. One answer that gives the fact away is enough.",
    ),
    Attack(
        neighbours,
        "Neighbours",
        "Other questions that lead to the same fact: about the person under another description, "
        "in two steps, or about something that follows from it.",
        needs="related",
    ),
    Attack(
        relearning,
        "Relearning",
        "A few steps of training, on some of the forgotten answers (others are then asked for), on "
        "questions without answers, or on something else: what is only hidden comes back fast.",
    ),
    Attack(
        quantisation,
        "Rounded weights",
        "The model is stored in 8 or 4 bits a weight, as is common to save memory: small changes, "
        "which may be all that hides an answer, are rounded away.",
    ),
    Attack(
        pruning,
        "Pruned weights",
        "The smallest weights are removed, as is common to make a model faster: what hides an "
        "answer may be among them.",
    ),
    Attack(
        noise,
        "Noise",
        "Random noise is added to all weights: what hides an answer may break before the answer.",
    ),
    Attack(
        logit_lens,
        "Logit lens",
        "Nobody asks: the model reads the question and the true answer up to its fact, and the "
        "next word is read off behind each layer, as if the model ended there. It may be known "
        "half way up and suppressed later.",
        internal=True,
    ),
    Attack(
        depth,
        "Depth",
        "Nobody asks: what the layers of the model hold is put into the model before unlearning, "
        "layer by layer, to see whether that can still read the answer from it.",
        internal=True,
    ),
)

__all__ = ["ATTACKS", "Attack", "AttackContext", "ask", "find_attack"]
