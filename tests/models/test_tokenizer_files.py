"""A tokenizer that loops, grows or makes too much of a text is refused before it is loaded."""

import json

import pandas as pd
import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from closer_look.errors import InputError
from closer_look.models import rehearsal, tokenizer_files
from closer_look.models.language_model import LanguageModel, load_tokenizer
from closer_look.models.readiness import check_refusals, check_rows
from closer_look.models.tokenizer_files import check_tokenizer


@pytest.fixture
def folder(language_model, tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "SECONDS", 2)
    language_model.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def change(folder, file="tokenizer.json", **settings):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def refused(folder):
    with pytest.raises(InputError) as caught:
        load_tokenizer(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}: ")


def split(expression):
    return {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Isolated",
        "invert": False,
    }


def replace(pattern, content="b"):
    return {"type": "Replace", "pattern": pattern, "content": content}


@pytest.mark.parametrize(
    "expression", ["(a+)+$", r"(q|qq)+\d", r"(\s+)+x", "a*a*a*a*a*a*b", "(.|.)+é"]
)
def test_expression_that_never_comes_to_an_end_is_refused(folder, expression):
    change(folder, pre_tokenizer=split(expression))
    message = refused(folder)
    assert message.startswith("tokenizer.json fails on '")
    assert message.endswith("retry-limit-in-match over); take another tokenizer")


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
def test_so_is_one_of_another_part(folder, part):
    change(folder, **{part: replace({"Regex": "(a+)+$"})})
    assert refused(folder).startswith("tokenizer.json fails on 'aaaa")


def test_added_token_on_which_the_normaliser_loops_is_refused(folder):
    token = {"id": 300, "content": "a" * 40 + "!", "normalized": True, "special": False}
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip"], False)
    change(folder, normalizer=replace({"Regex": "(a+)+$"}), added_tokens=[token | flags])
    assert refused(folder).startswith("no tokenizer there that transformers can read (Onig")


def test_text_that_grows_without_end_is_refused(folder):
    grows = [replace({"String": "a"}, "a" * 10)] * 12
    change(folder, normalizer={"type": "Sequence", "normalizers": grows})
    message = refused(folder)
    assert message.startswith("to read tokenizer.json takes more than 2")  # GB, or seconds
    assert message.endswith("; use a folder as save_pretrained writes it")


def test_padding_without_end_is_refused(folder):
    padding = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None}
    change(folder, padding=padding | {"pad_id": 0, "pad_type_id": 0, "pad_token": "x"})
    assert "tokenizer.json takes more than" in refused(folder)


def test_many_tokens_around_a_text_are_refused(folder):
    many = {"id": "x", "ids": [0] * 200_000, "tokens": ["x"] * 200_000}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    template = {
        **{"type": "TemplateProcessing", "special_tokens": {"x": many}},
        **{"single": [{"SpecialToken": {"id": "x", "type_id": 0}}, text], "pair": [text]},
    }
    change(folder, post_processor=template)
    assert refused(folder) == "tokenizer.json makes 200,000 tokens of an empty text"


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_many_added_tokens_are_refused(folder, monkeypatch, file):
    monkeypatch.setattr(tokenizer_files, "MOST_ADDED", 1)
    change(folder, file, **{tokenizer_files.ADDED[file]: {"300": {}, "301": {}}})
    assert refused(folder) == f"{file} has more than 1 added tokens"


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_deep_file_is_refused(folder, file):
    (folder / file).write_text('{"a": ' * 100_000)
    assert refused(folder).startswith("no tokenizer there that transformers can read (")


def test_a_passed_tokenizer_is_not_tried_again_until_it_changes(folder, monkeypatch):
    check_tokenizer(str(folder))
    monkeypatch.setattr(tokenizer_files, "_try", lambda paths: 1 / 0)
    check_tokenizer(str(folder))
    change(folder, normalizer={"type": "Lowercase"})
    with pytest.raises(ValueError, match="division by zero"):
        check_tokenizer(str(folder))


PUBLISHED = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt_oss": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?"
    r"[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "bloom": r" ?[^(\s|[.,!?…。\x{ff0c}、।\x{06d4}،])]+",
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_expressions_of_published_tokenizers_pass(folder, family):
    parts = [split(PUBLISHED[family]), {"type": "Digits", "individual_digits": True}]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    parts.append(byte_level | {"use_regex": True})
    change(folder, pre_tokenizer={"type": "Sequence", "pretokenizers": parts})
    check_tokenizer(str(folder))


def test_large_vocabulary_passes(folder):
    vocabulary = {f"t{number}": number for number in range(256_000)}
    change(folder, model={"type": "WordLevel", "vocab": vocabulary, "unk_token": "t0"})
    check_tokenizer(str(folder))


# --- rows on which a tokenizer loops that no probe has found ------------------------------------


@pytest.fixture
def looping(language_model):
    """A model whose tokenizer takes too many steps on a run of one rare letter."""
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"?": 0, "</s>": 1}, unk_token="?"))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Split(Regex("(ж+)+!"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", bos_token="</s>")
    tokenizer.name_or_path = "a/model"
    tokenizer.chat_template = language_model.tokenizer.chat_template
    return LanguageModel(language_model.model, tokenizer)


def rows(text):
    return pd.DataFrame({"row_id": ["one"], "question": ["Who?"], "text": [text]})


LOOPS = "ж" * 40 + " and !"


def test_rows_on_which_a_tokenizer_loops_are_refused(looping):
    check_rows(looping, rows("Nobody."))
    with pytest.raises(InputError) as caught:
        check_rows(looping, rows(LOOPS))
    assert str(caught.value) == (
        "a/model: its tokenizer fails on these rows (Onig: Regex search error: "
        "retry-limit-in-match over); take another"
    )


def test_refusals_on_which_a_tokenizer_loops_are_refused(looping):
    check_refusals(looping, ["Nobody."], ["Who?"])
    with pytest.raises(InputError, match="its tokenizer fails on these rows"):
        check_refusals(looping, [LOOPS], ["Who?"])
