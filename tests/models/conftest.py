"""Tiny models whose tokenizers have templates of the shapes of published chat models."""

import pytest
from tokenizers import AddedToken

from closer_look.models.prompts import set_prompt
from closer_look.parameters.models import PromptParameters

TEMPLATES = {
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not"
        " supported') }}{% endif %}{% for message in messages %}{% set role = 'model' if "
        "message['role'] == 'assistant' else message['role'] %}{{ '<start_of_turn>' + role + '\n' +"
        " message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt "
        "%}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "phi": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + "
        "'<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}"
        "{{ eos_token }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token }}{% if not date_string is defined %}{% if strftime_now is defined %}"
        "{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{% endif %}"
        "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + "
        "'\n\n<|eot_id|>' }}{% for message in messages %}{{ '<|start_header_id|>' + message['role']"
        " + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
        "{% endif %}"
    ),
    "qwen3": (
        "{% for message in messages %}{% if message.role == 'assistant' %}{{ '<|im_start|>"
        "assistant\n<think>\n\n</think>\n\n' + message.content + '<|im_end|>\n' }}{% else %}{{ "
        "'<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is "
        "defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}[SYSTEM_PROMPT]Today is {{ strftime_now('%Y-%m-%d') }}.[/SYSTEM_PROMPT]"
        "{% for message in messages %}{% if message.role == 'user' %}{{ '[INST] ' + message.content"
        " + '[/INST]' }}{% elif message.role == 'assistant' %}{{ ' ' + message.content + eos_token "
        "}}{% endif %}{% endfor %}"
    ),
    "parts": (
        "{% for message in messages %}{{ '<|' + message.role + '|>' }}{% for part in "
        "message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
        "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
    "r1": (
        "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}{{ '<|User|>' +"
        " message.content }}{% elif message.role == 'assistant' %}{{ '<|Assistant|>' + "
        "message.content.split('</think>')[-1] + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
    ),
}
SPECIAL = ["<start_of_turn>", "<end_of_turn>", "<|end|>", "<|eot_id|>", "<|im_start|>"]
SPECIAL += ["<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|bos|>", "<|eos|>"]
TEXTS = ["Where was Ada born?", "Who taught Bo?", "In Rome.", "Nobody did."]


@pytest.fixture
def chat_model(tiny_llama):
    """A tiny model whose tokenizer has a template, and an eos that ends no turn."""

    def chat_model(name, **settings):
        made = tiny_llama([*TEXTS, *TEMPLATES.values()], vocabulary_size=600)
        tokens = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
        made.tokenizer.add_tokens(tokens)
        made.tokenizer.eos_token, made.tokenizer.bos_token = "<|eos|>", "<|bos|>"
        made.tokenizer.chat_template = TEMPLATES[name]
        made.model.resize_token_embeddings(len(made.tokenizer))
        set_prompt(made.tokenizer, "chat_template", PromptParameters(**settings))
        return made

    return chat_model
