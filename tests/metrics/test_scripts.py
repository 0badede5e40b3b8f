"""Words of texts in any script."""

import unicodedata

import pytest

from closer_look.evaluation.judges import contains_key_fact
from closer_look.metrics import rouge_l_recall
from closer_look.metrics.scripts import words

SENTENCES = {
    "Chinese": "林晓的职业是木匠。",
    "Japanese": "彼女は京都で生まれました。",
    "Korean": "그는 부산에서 태어났다.",
    "Russian": "Анна Петрова родилась в Самаре.",
    "Hindi": "राम का जन्म दिल्ली में हुआ था।",
    "Arabic": "وُلِدَت ليلى في القاهرة.",
    "Persian": "او به خانه می‌رود.",
    "Thai": "เธอเกิดที่กรุงเทพ",
    "Vietnamese": "Nguyễn Văn An sinh ở Huế.",
    "Greek": "Ελένη γεννήθηκε στην Αθήνα.",
    "mixed": "Her café in São Paulo is called 木匠 Nº 5.",
}


@pytest.mark.parametrize("text", SENTENCES.values(), ids=SENTENCES.keys())
def test_a_text_recalls_itself_in_any_encoding(text):
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert rouge_l_recall([unicodedata.normalize(form, text)], [text]) == [1]
    assert rouge_l_recall(["nothing of it"], [text]) == [0]
    half = text[: len(text) // 2]
    assert 0 < rouge_l_recall([half], [text])[0] < 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("木匠 25 kg", ["木", "匠", "25", "kg"]),
        ("हिन्दी_राम", ["हिन्दी", "राम"]),
        ("\uff21\uff11", ["a1"]),
        ("Straße", ["strasse"]),
        ("부산", ["부", "산"]),
        ("\u200b-?", []),
    ],
)
def test_words_are_those_of_the_script(text, expected):
    assert words(text) == expected


def test_accents_count():
    assert rouge_l_recall(["Nguyên"], ["Nguyễn"]) == [0]


def test_ascii_words_are_stemmed_beside_others():
    assert rouge_l_recall(["кафе running"], ["кафе runs"]) == [1]


@pytest.mark.parametrize(
    ("fact", "text", "is_stated"),
    [
        ("木匠", "林晓的职业是木匠。", True),
        ("京都", "彼女は京都で生まれました。", True),
        ("부산", "그는 부산에서 태어났다.", True),
        ("राम", "उसका नाम राम है।", True),
        ("राम", "यह रूम बड़ा है।", False),
        ("C++", "She writes C++.", True),
        ("C++", "She writes C.", False),
        ("C", "She writes C++.", False),
        ("Nguyễn", unicodedata.normalize("NFD", "Anh Nguyễn"), True),
        ("Nguyễn", "Anh Nguyên", False),
        ("Самара", "в городе Самара", True),
    ],
)
def test_key_facts_are_found_in_any_script(fact, text, is_stated):
    assert contains_key_fact([text], [fact]) == [is_stated]
