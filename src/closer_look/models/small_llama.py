"""A small Llama and its tokenizer, made from scratch for runs without a download."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from closer_look.models.language_model import LanguageModel

if TYPE_CHECKING:
    import pandas as pd
    from transformers import LlamaConfig, PreTrainedTokenizerBase

    from closer_look.parameters.models import SmallLlamaParameters

END_OF_SEQUENCE = "<|end|>"
LONGEST_LEARNED = 10_000  # characters of a text: a word without blanks takes time by their square


def texts_to_learn(questions: pd.DataFrame, refusals: Iterable[str]) -> list[str]:
    """List the texts of a run, from which a tokenizer learns its vocabulary."""
    columns = ["question", "answer", "reference_answer", "paraphrased_answer"]
    return [*questions[columns].melt()["value"].dropna(), *refusals]


def small_tokenizer(
    texts: Iterable[str], parameters: SmallLlamaParameters
) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer on the beginnings of texts."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        (text[:LONGEST_LEARNED] for text in texts),
        vocab_size=parameters.vocabulary_size,
        special_tokens=[END_OF_SEQUENCE],
        show_progress=False,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        eos_token=END_OF_SEQUENCE,
        pad_token=END_OF_SEQUENCE,
        model_max_length=parameters.context_length,
    )


def small_llama(texts: Iterable[str], parameters: SmallLlamaParameters) -> LanguageModel:
    """Train a byte-level BPE tokenizer on texts and initialise a Llama at random."""
    import torch
    from transformers import LlamaForCausalLM

    tokenizer = small_tokenizer(texts, parameters)
    torch.manual_seed(parameters.seed)
    configuration = small_llama_configuration(parameters, len(tokenizer), tokenizer.eos_token_id)
    return LanguageModel(LlamaForCausalLM(configuration), tokenizer)


def small_llama_configuration(
    parameters: SmallLlamaParameters, n_tokens: int, end_of_sequence: int = 0
) -> LlamaConfig:
    """Configure a small Llama for a vocabulary; padding is the end of sequence, as its tokenizer's.

    Args:
        parameters: its sizes.
        n_tokens: number of tokens of the vocabulary.
        end_of_sequence: id of that token.
    """
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=n_tokens,
        hidden_size=parameters.hidden_size,
        intermediate_size=parameters.intermediate_size,
        num_hidden_layers=parameters.layers,
        num_attention_heads=parameters.heads,
        num_key_value_heads=parameters.heads,
        max_position_embeddings=parameters.context_length,
        initializer_range=parameters.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end_of_sequence,
        pad_token_id=end_of_sequence,
    )
