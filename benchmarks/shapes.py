"""Random models of published sizes, the rows they read, and what their steps take, for GPUs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from setups import ROOT
from transformers import LlamaConfig, LlamaForCausalLM

from closer_look.data.planning import draw_plan
from closer_look.datasets.raw_rows import QuestionsDataset, RefusalsDataset
from closer_look.models.language_model import LanguageModel
from closer_look.models.prompts import set_prompt
from closer_look.models.small_llama import small_tokenizer
from closer_look.parameters.models import SmallLlamaParameters

INVENTED = ROOT / "data" / "01_raw" / "invented_people"
TOFU = ("forget01_perturbed", "retain_perturbed")

LLAMA_3 = {
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
SHAPES = {
    # https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/blob/main/config.json
    "135M": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "initializer_range": 576**-0.5,
    },
    # https://huggingface.co/meta-llama/Llama-3.2-1B-Instruct/blob/main/config.json
    "1B": LLAMA_3
    | {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    # https://huggingface.co/meta-llama/Llama-3.2-3B-Instruct/blob/main/config.json
    "3B": LLAMA_3
    | {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
    },
    "tiny": {
        "vocab_size": 4096,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.125,
    },
}

PEAKS = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Part of a device's name -> its peak in bf16 without sparsity, floating-point operations a second.

Of NVIDIA's data sheets, where most stand with sparsity: twice as many. The first match counts.
"""


def load_rows(folder: Path) -> pd.DataFrame:
    """Load rows to forget and to retain: TOFU's by their published names, or forget and retain."""
    is_tofu = (folder / f"{TOFU[0]}.json").exists()
    names = zip(("forget", "retain"), TOFU if is_tofu else ("forget", "retain"), strict=True)
    splits = [QuestionsDataset(filepath=str(folder / one), split=split) for split, one in names]
    return pd.concat([one.load() for one in splits], ignore_index=True)


def draw(questions: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    """Draw a plan of so many rows of the first task, in as many epochs as it takes."""
    epochs = -(-n_rows // (questions["task_id"] == 1).sum())
    refusals = RefusalsDataset(filepath=str(INVENTED / "refusals.txt")).load()
    generator = np.random.default_rng(1)
    plan = draw_plan(
        questions, refusals, 1, epochs=epochs, pairing="per_epoch", generator=generator
    )
    return plan.head(n_rows).assign(epoch=1, alternate="Nobody has told me that.")


def make_model(shape: str, questions: pd.DataFrame, device: str) -> LanguageModel:
    """Make a random Llama, weights in fp32, with a tokenizer that learns the rows' words.

    Its vocabulary is smaller than the model's: the tokens of a text are a few more.
    """
    sizes = SHAPES[shape]
    parameters = SmallLlamaParameters(
        vocabulary_size=min(8192, sizes["vocab_size"]),
        context_length=sizes["max_position_embeddings"],
        # The sizes of another model, which the tokenizer does not read.
        **{"hidden_size": 2, "intermediate_size": 1, "layers": 1, "heads": 1},
        **{"initializer_range": 1.0, "seed": 1},
    )
    tokenizer = small_tokenizer([*questions["question"], *questions["answer"]], parameters)
    set_prompt(tokenizer, "plain")
    torch.manual_seed(1)
    with torch.device(device):
        return LanguageModel(
            LlamaForCausalLM(configuration(shape, tokenizer.eos_token_id)), tokenizer
        )


def configuration(shape: str, end: int) -> LlamaConfig:
    """Return the configuration of a shape, with a token that ends answers."""
    ends = {"bos_token_id": None, "eos_token_id": end, "pad_token_id": end}
    return LlamaConfig(**SHAPES[shape], **ends, rms_norm_eps=1e-5, tie_word_embeddings=True)


def n_weights(shape: str) -> int:
    """Count the weights of a shape."""
    with torch.device("meta"):
        model = LlamaForCausalLM(configuration(shape, 0))
    return sum(one.numel() for one in model.parameters())


def peak_flops(device: str) -> float | None:
    """Return the floating-point operations a second of a device, in bf16; None if not known."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


def step_flops(config: LlamaConfig, batch: dict) -> float:
    """Count the floating-point operations of a training step on a packed batch.

    Six for each weight of the layers and each token computed, six for each weight of the output
    head and each label (arXiv 2001.08361), and in attention twelve for each coordinate of each head
    and each pair of a token with one that it sees.
    """
    size, heads = config.hidden_size, config.num_attention_heads
    head_size = size // heads
    of_attention = 2 * size * head_size * (heads + config.num_key_value_heads)
    layer = of_attention + 3 * size * config.intermediate_size
    n_tokens, n_labels = batch["input_ids"].shape[1], len(batch["labels"])
    # A row's n own tokens end its path of p: they see p - n + 1, ..., p tokens.
    rows = zip(batch["own_lengths"], batch["path_lengths"], strict=True)
    seen = sum(n * (2 * p - n + 1) / 2 for n, p in rows)
    products = config.num_hidden_layers * layer * n_tokens + config.vocab_size * size * n_labels
    return 6 * products + 12 * config.num_hidden_layers * heads * head_size * seen
