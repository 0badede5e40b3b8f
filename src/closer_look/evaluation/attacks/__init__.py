"""Attacks: what an attacker gets back of what a model was made to forget.

An attack is a function, which has a module of its own of the same name, a line in ``ATTACKS``, and
a YAML in ``conf/base/parameters_attacks``. Modules of attacks import torch where they use it.
"""

from closer_look.evaluation.attacks.attack import Attack, AttackContext, ask, find_attack, table
from closer_look.evaluation.attacks.neighbours import neighbours
from closer_look.evaluation.attacks.paraphrase import paraphrase
from closer_look.evaluation.attacks.prompts import prompts
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
)

__all__ = ["ATTACKS", "Attack", "AttackContext", "ask", "find_attack"]
