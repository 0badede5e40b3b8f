"""Scoring the answers to TOFU questions, against rows padded to 200 tokens and every logit."""

import torch

from closer_look.losses import sequence_nll
from closer_look.scoring import given_answers, score
from closer_look.tokens import IGNORED, encode

N_QUESTIONS, LENGTH = 8, 200


def test_scoring(benchmark, side_by_side, language_model, questions, request):
    answers = given_answers(questions.head(N_QUESTIONS))
    asked, texts = list(answers["question"]), list(answers["text"])
    benchmark.group = f"scoring, {request.node.callspec.params['language_model']}"

    @torch.inference_mode()
    def other():
        """As published: rows padded to 200, every logit."""
        model, tokenizer = language_model
        rows = encode(tokenizer, asked, texts)
        for start in range(0, len(rows), 8):
            chosen = [row.prompt + row.answer for row in rows[start : start + 8]]
            ids = torch.full((len(chosen), LENGTH), tokenizer.eos_token_id)
            mask = torch.zeros_like(ids)
            for i, tokens in enumerate(chosen):
                ids[i, : len(tokens)] = torch.tensor(tokens)
                mask[i, : len(tokens)] = 1
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
            sequence_nll(logits, ids.where(mask.bool(), IGNORED)[:, 1:])

    side_by_side(lambda: score(language_model, asked, texts, 32), other)
