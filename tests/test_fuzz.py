"""Whatever comes in ends in a result or one line of error: rows, parameters, templates, models.

``make test`` tries 100 examples, ``make test-all`` 2,000 (``FUZZ_EXAMPLES``): always the same ones.
"""

import copy
import json
import os
import resource
import shutil
import signal
from contextlib import contextmanager

import psutil
import pyarrow
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from closer_look.data.questions import QUESTIONS, given_texts
from closer_look.datasets.raw_rows import QuestionsDataset, RefusalsDataset
from closer_look.models.language_model import load_language_model
from closer_look.models.prompts import set_prompt
from closer_look.models.tokens import encode
from closer_look.parameters.groups import GROUPS, NAMED
from closer_look.pipelines.forget_set.nodes import collect_questions
from closer_look.project.runner import DepthFirstRunner
from closer_look.project.session import _find_input_error

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
SHARES = {"rows": 0.78, "parameters": 0.05, "templates": 0.07, "folders": 0.1}
SECONDS, MEMORY = 10, 2 * 2**30  # of processor time, and bytes, for an example


def tried(kind):
    """Settings of one kind of examples."""
    return settings(
        max_examples=round(EXAMPLES * SHARES[kind]),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def one_line_or_a_result():
    """Let nothing out but a refusal in one line; a hang or a greedy example fails."""

    def give_up(*_):
        raise AssertionError(f"more than {SECONDS} seconds of work")

    before = resource.getrlimit(resource.RLIMIT_AS)
    signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MEMORY, before[1]))
    try:
        yield
    except Exception as error:
        refusal = _find_input_error(error)  # as a session does
        if refusal is None:
            raise
        assert str(refusal).isprintable()
        assert len(str(refusal)) < 2000
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)


TEXTS = st.text(max_size=8) | st.sampled_from(["Who?", "She.", "", "\x00", "\ud83d", "1", "${x}"])
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 10**9, 10**18, 1e-400, 2**64])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=5,
)
COLUMNS = st.sampled_from([*QUESTIONS.columns, "golden_answer", "perturbed_answer", "name", ""])
LIKELY = {"question": st.just("Who?"), "answer": st.just("She."), "task_id": st.just(1)}
ROWS = st.lists(
    st.dictionaries(COLUMNS | TEXTS, VALUES, max_size=5)
    | st.fixed_dictionaries(LIKELY, optional={"wrong_answers": VALUES, "key_fact": VALUES}),
    max_size=4,
)


def as_json_lines(rows):
    return "\n".join(map(json.dumps, rows)).encode()


def as_json(rows):
    return json.dumps(rows, ensure_ascii=False, indent=1).encode(errors="surrogatepass")


def as_csv(rows):
    lines = [[str(cell) for cell in row.values()] for row in rows]
    header = [str(name) for row in rows[:1] for name in row]
    written = "\n".join(",".join(line) for line in [header, *lines])
    return written.encode(errors="surrogatepass")


def as_arrow(rows, write):
    try:
        table = pyarrow.Table.from_pylist(rows)
        sink = pyarrow.BufferOutputStream()
        write(table, sink)
        return sink.getvalue().to_pybytes()
    except (pyarrow.ArrowException, TypeError, OverflowError, ValueError, AttributeError):
        return as_json(rows)  # of no one type


def write_stream(table, sink):
    with ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


WRITERS = {
    "jsonl": as_json_lines,
    "json": as_json,
    "csv": as_csv,
    "tsv": as_csv,
    "parquet": lambda rows: as_arrow(rows, parquet.write_table),
    "arrow": lambda rows: as_arrow(rows, write_stream),
}
MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["cut", "flip", "drop", "double", "put"]), st.floats(0, 1))
    | st.tuples(st.just("put"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
    max_size=3,
)


def mutated(content, mutations):
    for kind, place, *new in mutations:
        at = int(place * len(content))
        content = {
            "cut": content[:at],
            "flip": content[:at] + bytes([byte ^ 255 for byte in content[at : at + 1]]),
            "drop": content[:at] + content[at + 9 :],
            "double": content[:at] + content,
            "put": content[:at] + b"".join(new or [b"\x00"]) + content[at:],
        }[kind]
    return content


@tried("rows")
@given(
    kind=st.sampled_from(sorted(WRITERS)),
    content=ROWS | st.binary(max_size=40),
    mutations=MUTATIONS,
    split=st.sampled_from(["forget", "retain"]),
)
def test_rows(tmp_path_factory, make_questions, kind, content, mutations, split):
    written = content if isinstance(content, bytes) else WRITERS[kind](content)
    path = tmp_path_factory.getbasetemp() / f"fuzzed.{kind}"
    path.write_bytes(mutated(written, mutations))
    experiment = GROUPS["experiment"](methods=["ga_gd"], n_tasks=1, splits=["forget", "retain"])
    to_forget = make_questions(("forget", 1, 1))
    with one_line_or_a_result():
        table = QuestionsDataset(filepath=str(path), split=split).load()
        questions, _ = collect_questions(experiment, **{"forget": to_forget, split: table})
        assert given_texts(questions)["text"].map(type).eq(str).all()
        questions.to_parquet(path.with_suffix(".saved"))
    with one_line_or_a_result():
        assert all(RefusalsDataset(filepath=str(path)).load())


class NoRunner(DepthFirstRunner):
    """Runs no node: all checks come before."""

    def run(self, *args, **kwargs):
        return {}


FIELDS = st.sampled_from(
    [(group, name) for group, model in GROUPS.items() for name in model.model_fields]
    + [(group, "me_gd", name) for group, model in NAMED.items() for name in model.model_fields]
    + [("experiment",), ("methods",), ("models",), ("run",), ("forget_split",), ("corpus",)]
)
PLACES = FIELDS | st.tuples(st.sampled_from([*GROUPS, *NAMED]), TEXTS) | TEXTS.map(lambda x: (x,))


@tried("parameters")
@given(given_values=st.lists(st.tuples(PLACES, VALUES), min_size=1, max_size=2))
def test_parameters(open_session, tmp_path_factory, given_values):
    parameters = {}
    for (*groups, name), value in given_values:
        place = parameters
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                return
        place[name] = value
    if "data" in parameters:  # where the run writes
        return
    data = tmp_path_factory.getbasetemp() / "fuzzed_data"
    with one_line_or_a_result(), open_session(data, parameters) as session:
        session.run(runner=NoRunner())


PIECES = st.sampled_from(
    [
        "{{ messages[0]['content'] }}",
        "{{ messages[0].role }}",
        "{{ messages[-1]['content'] | upper }}",
        "{{ bos_token }}",
        "{{ eos_token }}",
        "{{ nothing }}",
        "{{ nothing.at.all }}",
        "{{ raise_exception('no\nmore') }}",
        "{{ strftime_now('%Y') }}",
        "{{ 1 // 0 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>999999999}'.format('x') }}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 10 ** 8 }}",
        "{{ ([1] * 10 ** 8) | length }}",
        "{{ messages | tojson }}",
        "{{ messages.__class__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ range(99999999999) | list }}",
        "{% set ns = namespace(x='y') %}{% set ns.x = ns.x * 9 %}{{ ns.x }}",
        "\x00\u202e\ud83d",
        "{% break %}",
        "{{",
        "{% if",
    ]
)
AROUND = st.sampled_from(
    [
        "{%% for m in messages %%}%s{%% endfor %%}",
        "{%% for i in range(99999) %%}%s{%% endfor %%}",
        "{%% if add_generation_prompt %%}%s{%% endif %%}",
        "{%% macro f(x) %%}%s{{ f(x) }}{%% endmacro %%}{{ f(1) }}",
        "{%% generation %%}%s{%% endgeneration %%}",
        "{%% filter upper %%}%s{%% endfilter %%}",
        "{%% raw %%}%s{%% endraw %%}",
        "A%sB",
    ]
)
CHAT_TEMPLATES = st.recursive(
    PIECES | TEXTS,
    lambda parts: (
        st.lists(parts, max_size=3).map("".join)
        | st.tuples(AROUND, parts).map(
            lambda both: both[0].replace("%s", both[1]).replace("%%", "%")
        )
    ),
    max_leaves=5,
)


@tried("templates")
@given(template=CHAT_TEMPLATES)
def test_chat_templates(language_model, template):
    tokenizer = copy.deepcopy(language_model.tokenizer)
    tokenizer.chat_template = template
    with one_line_or_a_result():
        set_prompt(tokenizer, "chat_template")
        (row,) = encode(tokenizer, ["Who?"], ["She."])
        assert row.answer


@pytest.fixture(scope="module")
def folder(language_model, tmp_path_factory):
    """A model's folder that is in order."""
    folder = tmp_path_factory.mktemp("model")
    for part in language_model:
        part.save_pretrained(folder)
    load_language_model(str(folder))
    return folder


FILES = ("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors")
SETTINGS = ("architectures", "dtype", "model_type", "rope_theta", "rms_norm_eps", "hidden_act")
SETTINGS += ("tie_word_embeddings", "eos_token_id", "use_cache", "chat_template", "eos_token")


@tried("folders")
@given(
    name=st.sampled_from(FILES),
    change=st.none() | MUTATIONS | st.tuples(st.sampled_from(SETTINGS), VALUES),
)
def test_model_folders(folder, tmp_path_factory, name, change):
    changed = tmp_path_factory.getbasetemp() / "fuzzed_model"
    shutil.rmtree(changed, ignore_errors=True)
    shutil.copytree(folder, changed)
    content = (changed / name).read_bytes()
    if change is None:
        (changed / name).unlink()
    elif isinstance(change, list):
        (changed / name).write_bytes(mutated(content, change))
    elif name.endswith("config.json"):
        (changed / name).write_text(json.dumps(json.loads(content) | dict([change])))
    with one_line_or_a_result():
        load_language_model(str(changed))
