# make demo              the study at toy scale, from a URL list to the figure (two cores, no GPU)
# make demo-all          every experiment at toy scale (an hour and a quarter)
# make test              linters and tests
# make test-experiments  every experiment, run at its smallest size
# make test-slurm        the workflow on a private Slurm cluster, started for the test
# make test-hostile      hostile servers, files and folders, and processes killed at any time
# make benchmarks        speed and memory compared with the straightforward way, without a GPU
# make benchmark-scale   the data steps with 12.4 million rows, in 4 GB of memory each
# make quick             linters and a selection of tests (a minute)
# make docs              the documentation, in build/docs
# make setup             prerequisites of all targets: .venv, WordNet, Graphviz, links to the profiles
# make lock              resolve the packages of pyproject.toml into the lock files
# make clean             remove the demo's results
#
# Targets can be run in any order, repeated, and interrupted.

PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup links demo demo-all quick test test-experiments test-hostile test-slurm slurm browser benchmarks benchmark-scale lint docs lock clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

setup: .venv/.ready .venv/.graphviz nltk_data/.ready links
	@echo "Ready. Next: make demo; or: source .venv/bin/activate && snakemake --profile demo all"

.venv/.ready: requirements.lock requirements-torch.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is required; select one with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	# Python compiles modules when they are imported; pip would spend a minute on compiling all 5 GB.
	.venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
		--require-hashes --no-deps -r requirements.lock
	.venv/bin/pip install --quiet --no-compile --disable-pip-version-check -r requirements-torch.lock
	touch $@

.venv/.graphviz: .venv/.ready
	command -v dot > /dev/null || envs/install_system_package graphviz "drawing the rule graph"
	touch $@

nltk_data/.ready: .venv/.ready
	python -m workflow_scripts.captions.wordnet --output nltk_data || \
		{ envs/install_system_package wordnet-base "augmenting captions" && \
		python -m workflow_scripts.captions.wordnet --output nltk_data; }
	touch $@

# Snakemake looks for `--profile demo` in the working directory, not in profiles/.
links:
	@for profile in demo local slurm; do ln -sfn "profiles/$$profile" "$$profile"; done

demo: setup
	snakemake --profile demo all
	snakemake --profile demo --report results/demo/report.html
	@python -m workflow_scripts.results.summary --results results/demo

demo-all: setup
	snakemake --profile demo all all_experiments demo_audit zoo
	snakemake --profile demo --report results/demo/report.html all all_experiments
	@python -m workflow_scripts.results.summary --results results/demo

# A fast check while editing.
quick: lint
	pytest --quiet --numprocesses 2 tests/common tests/model tests/experiments/test_expand.py \
		tests/experiments/test_identity.py tests/poison tests/test_repository.py

docs: .venv/.ready
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

test: setup lint docs browser
	pytest --numprocesses 2

test-experiments: setup
	pytest tests/every_experiment

test-hostile: setup
	pytest --numprocesses 2 tests/hostile

# One worker per file, each with its own Slurm cluster; most of the time is spent waiting.
test-slurm: setup slurm
	pytest --numprocesses 4 --dist loadfile tests/slurm

slurm:
	@PATH="$$PATH:/usr/sbin:/sbin"; for package in munge:munged slurm-wlm:slurmctld; do \
		command -v $${package#*:} > /dev/null || \
		envs/install_system_package $${package%:*} "testing on a private Slurm cluster" || exit 1; \
	done

benchmarks: setup
	@OMP_NUM_THREADS=1 python -m benchmarks

benchmark-scale: setup
	@OMP_NUM_THREADS=1 python -m benchmarks.data_stages --rows 12423374 --memory-gb 4 --ours-alone

# Without a browser, the browser tests of the results page are skipped.
browser:
	@command -v chromedriver > /dev/null || \
		envs/install_system_package chromium-driver "testing the results page in a browser" || true

lint: .venv/.ready
	ruff check
	ruff format --check
	lint-imports
	mypy
	snakefmt --check Snakefile rules
	snakemake --lint

lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check '.[dev]'
	build/lock/bin/pip freeze --exclude clip-backdoor-cleaning > build/freeze.txt
	build/lock/bin/pip install --quiet --disable-pip-version-check uv
	envs/write_pins build/freeze.txt build/lock/bin/uv

clean:
	rm -rf results/demo
