"""The reference cache: what is known is not computed again, and nothing is mistaken for it."""

import copy
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from closer_look.inference.scoring import score
from closer_look.models.adapters import with_adapter
from closer_look.models.language_model import (
    LanguageModel,
    computation_fingerprint,
    load_language_model,
    model_fingerprint,
)
from closer_look.models.tokens import encode
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import LoraParameters
from closer_look.training import reference
from closer_look.training.reference import reference_scores
from closer_look.training.reference_scores import ReferenceCache, cache_key


@pytest.fixture
def cache(tmp_path):
    return ReferenceCache(tmp_path / "cache")


@pytest.fixture
def questions(make_questions):
    return make_questions(("forget", 1, 2), ("retain", 0, 2))


@pytest.fixture
def plan():
    return pd.DataFrame(
        {
            "epoch": 1,
            "forget_row_id": ["forget-1-1", "forget-1-2"],
            "retain_row_id": ["retain-0-1", "retain-0-2"],
            "refusal": ["No.", "I cannot say."],
        }
    )


@pytest.fixture
def scored(monkeypatch):
    """Texts that went through the model."""
    texts = []

    def counted(language_model, questions, answers, *arguments, **options):
        texts.extend(answers)
        return score(language_model, questions, answers, *arguments, **options)

    monkeypatch.setattr(reference, "score", counted)
    return texts


def scores_of(language_model, plan, questions, forget, retain, *cache):
    method = MethodParameters(label="X", forget={"loss": forget}, retain={"loss": retain})
    return reference_scores(language_model, plan, questions, method, 2, *cache)


def changed(language_model, change):
    copied = copy.deepcopy(language_model.model)
    with torch.no_grad():
        change(copied)
    return LanguageModel(copied, language_model.tokenizer)


def test_npo_and_dpo_share_the_answers(language_model, plan, questions, cache, scored):
    scores_of(language_model, plan, questions, "npo", "gradient_descent", cache)
    assert sorted(scored) == ["Answer 1", "Answer 2"]
    scored.clear()
    scores_of(language_model, plan, questions, "dpo", "kl", cache)
    assert sorted(scored) == ["I cannot say.", "No."]


def test_rows_of_any_name_are_kept(language_model, plan, questions, cache):
    names = {"retain-0-1": "__metadata__", "retain-0-2": "../../x"}
    plan, questions = (
        plan.replace(names),
        questions.assign(row_id=questions["row_id"].replace(names)),
    )
    first, again = (
        scores_of(language_model, plan, questions, "gradient_ascent", "kl", cache) for _ in range(2)
    )
    assert first.hidden_states.keys() == again.hidden_states.keys() == set(names.values())
    assert [path.parent for path in cache.folder.iterdir()] == [cache.folder]


def test_methods_with_kl_share_the_hidden_states(
    language_model, plan, questions, cache, monkeypatch
):
    first = scores_of(language_model, plan, questions, "gradient_ascent", "kl", cache)
    monkeypatch.setattr(reference, "_hidden_states", None)
    second = scores_of(language_model, plan, questions, "npo", "kl", cache)
    assert first.hidden_states.keys() == second.hidden_states.keys()
    assert all(second.hidden_states[i].equal(states) for i, states in first.hidden_states.items())


@pytest.mark.parametrize("forget", ["npo", "dpo"])
def test_cached_scores_are_those_of_the_model(language_model, plan, questions, cache, forget):
    live = scores_of(language_model, plan, questions, forget, "kl")
    for _ in ("computed", "read"):
        kept = scores_of(language_model, plan, questions, forget, "kl", cache)
        pd.testing.assert_frame_equal(kept.nll, live.nll)
        for row_id, states in live.hidden_states.items():
            np.testing.assert_array_equal(kept.hidden_states[row_id], states)


def test_another_model_is_scored_anew(language_model, plan, questions, cache, scored):
    scores_of(language_model, plan, questions, "npo", "gradient_descent", cache)
    other = changed(language_model, lambda model: model.lm_head.weight.mul_(1.01))
    scores_of(other, plan, questions, "npo", "gradient_descent", cache)
    assert len(scored) == 4


@pytest.mark.parametrize("change", [{"rms_norm_eps": 0.1}, {"rope_parameters": {"rope_theta": 5}}])
def test_model_of_another_configuration_is_scored_anew(
    language_model, plan, questions, cache, scored, change
):
    scores_of(language_model, plan, questions, "npo", "gradient_descent", cache)
    other = changed(language_model, lambda model: model.config.update(change))
    scores_of(other, plan, questions, "npo", "gradient_descent", cache)
    assert len(scored) == 4


@pytest.mark.parametrize(
    ("name", "other"),
    [("code_hash", lambda function: "other"), ("library_versions", lambda: ("99.0",))],
)
def test_scores_by_other_code_or_libraries_are_computed_anew(
    language_model, plan, questions, cache, monkeypatch, name, other
):
    scores_of(language_model, plan, questions, "npo", "kl", cache)
    before = set(cache.folder.iterdir())
    monkeypatch.setattr(reference, name, other)
    scores_of(language_model, plan, questions, "npo", "kl", cache)
    assert len(set(cache.folder.iterdir()) - before) == len(before) == 2


def test_other_rows_are_scored_anew(language_model, plan, questions, cache, scored):
    scores_of(language_model, plan, questions, "npo", "gradient_descent", cache)
    scores_of(
        language_model, plan, questions.replace("Answer 1", "X"), "npo", "gradient_descent", cache
    )
    assert sorted(scored) == ["Answer 1", "Answer 2", "Answer 2", "X"]


def test_half_a_file_is_never_taken_for_the_scores(tmp_path):
    cache = ReferenceCache(tmp_path)

    def dies():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("key", dies)
    assert cache.get("key", lambda: {"x": torch.ones(1)})["x"].tolist() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["key.safetensors"]


def test_a_file_that_is_cut_short_is_never_taken_for_the_scores(tmp_path, monkeypatch):
    cache = ReferenceCache(tmp_path)

    def half(tensors, path):
        path.write_bytes(safetensors.torch.save(tensors)[:-1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(safetensors.torch, "save_file", half)
        cache.get("key", lambda: {"x": torch.ones(1)})
    assert list(tmp_path.iterdir()) == []
    assert cache.get("key", lambda: {"x": torch.zeros(1)})["x"].tolist() == [0]


def test_two_processes_may_keep_the_same_at_once(tmp_path, monkeypatch):
    cache, save = ReferenceCache(tmp_path), safetensors.torch.save_file
    scores = {"x": torch.ones(1)}

    def overtaken(tensors, path):
        with monkeypatch.context() as patch:
            patch.setattr(safetensors.torch, "save_file", save)
            patch.setattr(os, "getpid", lambda: 0)
            save(tensors, path)
            assert cache.get("key", lambda: scores)["x"].tolist() == [1]

    monkeypatch.setattr(safetensors.torch, "save_file", overtaken)
    assert cache.get("key", lambda: scores)["x"].tolist() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["key.safetensors"]


def test_fingerprints_are_the_same_after_a_round_trip(language_model, tmp_path):
    def again(made, name):
        for part in made:
            part.save_pretrained(tmp_path / name)
        return load_language_model(str(tmp_path / name))

    base = again(language_model, "base")
    adapted = with_adapter(again(language_model, "base"), LoraParameters(rank=2))
    for made, loaded in ((language_model, base), (adapted, again(adapted, "adapted"))):
        assert model_fingerprint(loaded) == model_fingerprint(made)
        assert computation_fingerprint(loaded) == computation_fingerprint(made)


@pytest.mark.parametrize("position", [0, -1])
def test_one_bit_of_one_weight_is_another_model(language_model, position):
    def flip(model):
        model.lm_head.weight.view(torch.int32).flatten()[position] ^= 1

    assert model_fingerprint(changed(language_model, flip)) != model_fingerprint(language_model)


def test_weights_that_change_places_are_another_model(language_model):
    def swap(model):
        weight = model.lm_head.weight
        weight[[0, 1]] = weight[[1, 0]]

    assert model_fingerprint(changed(language_model, swap)) != model_fingerprint(language_model)


def test_the_same_bytes_under_another_name_or_of_another_kind_are_another_model(language_model):
    bits = torch.ones(2, 3)
    weights = [
        {"a": bits},
        {"b": bits},
        {"a": bits.reshape(3, 2)},
        {"a": bits.view(torch.int32)},
    ]
    models = [SimpleNamespace(state_dict=lambda state=state: state) for state in weights]
    found = {model_fingerprint(LanguageModel(m, language_model.tokenizer)) for m in models}
    assert len(found) == len(weights)


def test_another_vocabulary_is_another_model(language_model):
    tokenizer = copy.deepcopy(language_model.tokenizer)
    tokenizer.add_tokens(["Quixote"])
    other = LanguageModel(language_model.model, tokenizer)
    assert model_fingerprint(other) != model_fingerprint(language_model)


def test_a_prompt_counts_by_its_tokens(language_model):
    """A template that is written in other words and renders the same is the same."""
    tokenizer = copy.deepcopy(language_model.tokenizer)
    other = LanguageModel(language_model.model, tokenizer)

    def key(template):
        tokenizer.chat_template = template
        rows = encode(tokenizer, ["Who?"], ["Ada"])
        return cache_key(model_fingerprint(other), "nll", rows)

    template = tokenizer.chat_template
    assert key(template) == key("{# a remark #}" + template)
    assert key(template) != key("{{ bos_token }}" + "On 3 May: " + template)


def test_adapters_are_part_of_the_model(language_model):
    copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
    adapted = with_adapter(copied, LoraParameters(rank=2))
    before = model_fingerprint(adapted)
    with torch.no_grad():
        next(w for name, w in adapted.model.named_parameters() if "lora_B" in name).add_(0.1)
    assert model_fingerprint(adapted) != before


def test_scale_of_adapters_counts_for_what_a_model_computes(language_model):
    copied = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
    adapted = with_adapter(copied, LoraParameters(rank=2))
    before = computation_fingerprint(adapted)
    adapted.model.peft_config["default"].lora_alpha *= 2
    assert computation_fingerprint(adapted) != before


def test_key_tells_apart_what_is_computed_and_of_what():
    keys = {
        cache_key("model", "nll", [["a", "b"]]),
        cache_key("model", "states", [["a", "b"]]),
        cache_key("other", "nll", [["a", "b"]]),
        cache_key("model", "nll", [["a"], ["b"]]),
        cache_key("model", "nll", [["b", "a"]]),
    }
    assert len(keys) == 5


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"cut"])
def test_a_damaged_file_of_the_cache_is_computed_again(cache, content, caplog):
    tensors = {"nll": torch.arange(3.0)}
    cache.get("key", lambda: tensors)
    (cache.folder / "key.safetensors").write_bytes(content)
    assert torch.equal(cache.get("key", lambda: tensors)["nll"], tensors["nll"])
    assert "key.safetensors is damaged" in caplog.text
    assert torch.equal(cache.get("key", lambda: None)["nll"], tensors["nll"])
