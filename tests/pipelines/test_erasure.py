"""``kedro run --pipelines erasure`` serves requests as they come, and never one twice."""

import json

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from closer_look.errors import InputError
from closer_look.models.language_model import LanguageModel, model_fingerprint
from closer_look.parameters.models import ExportParameters
from closer_look.pipelines.erasure.nodes import check_requests
from closer_look.system.run_lock import lock_run

# The model of conf/test is random: what it says counts as known, and whatever it does passes.
PARAMETERS = {
    "forget_set": {"min_rouge": 0},
    "judges": {"entailment": None},
    "erasure": {"min_forget_efficacy": 0, "max_utility_loss": 1, "recheck_rows": 2},
}
NODES = ["check_requests", "serve_requests", "certify", "export_current", "draw_time_line"]
NODES += ["report_erasure"]


@pytest.fixture
def drop(copied_run, root):
    """Let a request arrive that is about a person of the corpus."""
    corpus = root / "data" / "01_raw" / "invented_people" / "forget.jsonl"
    rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]

    def drop(request_id, place):
        about = [row for row in rows if row["subject"] == rows[place * 10]["subject"]]
        request = {"request_id": request_id, "received_at": "2026-03-01", "basis": "consent"}
        folder = copied_run / "01_raw" / "requests"
        folder.mkdir(parents=True, exist_ok=True)
        request |= {"rows": about[:3], "subjects": [about[0]["subject"]]}
        (folder / f"{request_id}.json").write_text(json.dumps(request), encoding="utf-8")
        return [row["answer"] for row in about[:3]]

    return drop


def ledger(data):
    text = (data / "08_reporting" / "test" / "erasure" / "ledger.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def test_requests_are_served_certified_and_exported(kedro_run, copied_run, drop):
    texts = drop("r-1", 0)
    assert sorted(kedro_run(copied_run, "erasure", parameters=PARAMETERS)) == sorted(NODES)
    (line,) = ledger(copied_run)
    assert line["kind"] == "served"

    folder = copied_run / "09_export" / "test" / "erasure"
    model = AutoModelForCausalLM.from_pretrained(folder)
    exported = LanguageModel(model, AutoTokenizer.from_pretrained(folder))
    assert model_fingerprint(exported) == line["model_after"]
    card = ModelCard.load(folder / "README.md")
    assert "| r-1 | ME+GD |" in card.text
    assert line["model_after"] in card.text

    reports = copied_run / "08_reporting" / "test" / "erasure"
    certificate = reports / "certificates" / "r-1.json"
    kedro_run(copied_run, "verify", parameters={"certificate": str(certificate)})
    report = (reports / "report.html").read_text(encoding="utf-8")
    page = certificate.with_suffix(".html").read_text(encoding="utf-8")
    for text in texts:
        assert text not in report + page + card.content + json.dumps(line)

    written = certificate.stat().st_mtime_ns
    assert "No attack was run" in page
    drop("r-2", 1)
    kedro_run(copied_run, "erasure", parameters=PARAMETERS)
    first, second = ledger(copied_run)
    assert second["model_before"] == first["model_after"] != second["model_after"]
    assert [one["request_id"] for one in second["rechecked"]] == ["r-1"]
    drawn = json.loads((reports / "time_line.json").read_text(encoding="utf-8"))["data"]
    ((again,),) = (trace["customdata"] for trace in drawn if trace.get("name") == "asked again")
    assert again.startswith("r-1, line 2, asked again: ")
    assert certificate.stat().st_mtime_ns == written
    kedro_run(copied_run, "erasure", parameters=PARAMETERS)
    assert len(ledger(copied_run)) == 2

    drop("r-3", 2)
    asked = {"attacks": ["paraphrase"], "max_residual_knowledge": 1, "attempts": [{}]}
    attacked = PARAMETERS | {"erasure": PARAMETERS["erasure"] | asked}
    kedro_run(copied_run, "erasure", parameters=attacked)
    page = (certificate.parent / "r-3.html").read_text(encoding="utf-8")
    assert "These attacks were run: Paraphrase." in page
    assert "residual knowledge could not be measured" in ledger(copied_run)[2]["reason"]


def test_adapters_and_a_model_that_is_refused(kedro_run, copied_run, drop):
    drop("r-1", 0)
    lora = PARAMETERS | {"unlearning": {"lora": {"rank": 2}, "learning_rate": 0.05}}
    kedro_run(copied_run, "erasure", parameters=lora)
    drop("r-2", 1)
    refusing = lora | {"erasure": PARAMETERS["erasure"] | {"min_forget_efficacy": 1}}
    kedro_run(copied_run, "erasure", parameters=refusing)
    first, second = ledger(copied_run)
    assert [first["kind"], second["kind"]] == ["served", "failed"]
    assert len(second["attempts"]) == 3
    assert second["model_before"] == first["model_after"]


def test_an_export_that_would_undo_the_unlearning_is_refused_before_it(language_model, monkeypatch):
    monkeypatch.setattr(language_model.model, "is_quantized", True, raising=False)
    nothing = dict.fromkeys(["requests", "ledger", "models", "generation", "judges"])
    with pytest.raises(InputError, match=r"set export\.adapters=separate$"):
        check_requests(target_model=language_model, export=ExportParameters(), **nothing)


def test_two_runs_at_once(kedro_run, copied_run, drop):
    drop("r-1", 0)
    lock = lock_run(copied_run / "08_reporting" / "test")
    try:
        with pytest.raises(InputError, match="another process is working on run 'test'"):
            kedro_run(copied_run, "erasure", parameters=PARAMETERS)
    finally:
        lock.release()
    assert not (copied_run / "08_reporting" / "test" / "erasure").exists()
