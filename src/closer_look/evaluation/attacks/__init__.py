"""Attacks: what an attacker gets back of what a model was made to forget.

An attack is a function, which has a module of its own of the same name, a line in ``ATTACKS``, and
a YAML in ``conf/base/parameters_attacks``. Modules of attacks import torch where they use it.
"""

from closer_look.evaluation.attacks.attack import Attack, AttackContext, ask, find_attack, table
from closer_look.evaluation.attacks.paraphrase import paraphrase

ATTACKS = table(
    Attack(
        paraphrase,
        "Paraphrase",
        "The same question in other words, as anybody might ask it.",
    ),
)

__all__ = ["ATTACKS", "Attack", "AttackContext", "ask", "find_attack"]
