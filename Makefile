# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
OUT    ?= demo-output

.PHONY: demo test test-fast lint bench gallery clean

$(STAMP): pyproject.toml Testing/constraints.txt
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c Testing/constraints.txt -e ".[dev]"
	@touch $(STAMP)

demo: $(STAMP)           ## synthesise lesions in a phantom, or in your scan: make demo CT=scan.nii.gz ORGANS=organs.nii.gz
	$(VENV)/bin/pasta demo --overwrite --out $(OUT) $(if $(CT),--ct "$(CT)") $(if $(ORGANS),--organs "$(ORGANS)") $(if $(LESION),--lesion $(LESION))

gallery: $(STAMP)        ## one page with all fifteen types: make gallery [CT=… ORGANS=…] [OUT=dir]
	$(VENV)/bin/pasta gallery --overwrite --out $(if $(filter command line,$(origin OUT)),$(OUT),gallery-output) $(if $(CT),--ct "$(CT)") $(if $(ORGANS),--organs "$(ORGANS)")

test: $(STAMP)           ## the whole suite; training apart, because it forks processes and wants them fresh
	$(PY) -m pytest -n 2 Testing/training
	$(PY) -m pytest -n 2 --ignore=Testing/training

test-fast: $(STAMP)      ## the suite without the slow tests
	$(PY) -m pytest -n 2 -m "not slow"

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

bench: $(STAMP)          ## every figure the project claims, measured here
	$(PY) -m Testing.bench $(BENCH)

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output gallery-output bench-output
