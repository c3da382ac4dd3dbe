PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_USER := 0
export PYTHONNOUSERSITE := 1
export PYTHONUTF8 := 1
unexport PYTHONDONTWRITEBYTECODE  # else every kernel compiles every module anew
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX  # what a user has set for other work

.PHONY: setup quick reproduce test test-slow soak mutants lab docs publish clean

setup: .venv/ready  ## the environment, made anew only when the lock changed

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 14), f'error: Python 3.11 to 3.14 needed, this is {sys.version.split()[0]}; try make PYTHON=python3.11'"
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

quick: setup  ## the notebooks and the report at quick-look size, in minutes; no verdicts
	python -m gmmdiff.pipeline.quick_look

reproduce: setup  ## every stage, then this machine's verdicts beside the published ones
	python -m gmmdiff.pipeline.check_parameters
	python -m gmmdiff.pipeline.resume
	python -m gmmdiff.pipeline.publishing compare

test: setup  ## formulas, bad input, the published snapshot, notebooks at quick-look size
	ruff check gmmdiff tests notebooks/more/*.py
	ruff format --check gmmdiff tests notebooks/more/*.py
	OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadgroup -m "not slow"

test-slow: setup  ## what is slow by nature: power cuts, lost workers, full disks, wheels, browsers
	OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadgroup -m slow

soak: setup  ## cut the pipeline's power at 8 random moments; the table goes to reports/published
	python -m tests.pipeline.soak
	cp reports/soak.csv reports/published/soak.csv

mutants: setup  ## small errors in a copy of the code, one at a time: would a test notice?
	OMP_NUM_THREADS=1 nice python tests/mutants.py > reports/mutants.csv

lab: setup  ## the notebooks in JupyterLab, from the one to read first
	jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(if $(filter 0,$(shell id -u)),--allow-root)

docs: setup  ## the pages of core and worlds, in reports/docs
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict -f .docs/mkdocs.yml

publish: setup  ## copy what dvc repro made to reports/published and the README
	python -m gmmdiff.pipeline.publishing publish

clean:  ## results and the environment; reports/published stays
	rm -rf .venv .mypy_cache reports/docs reports/.staging reports/quick_look reports/tables reports/figures reports/notebooks reports/denoisers reports/ask_for_a_face reports/environment reports/*.json reports/*.html reports/soak.csv reports/mutants.csv reports/parameters.*
