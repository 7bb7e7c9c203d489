# Everything on a fresh machine: `make bench` measures the default study, `make test` runs the tests.
# PYTHON picks the interpreter the environment is made from (3.11 or 3.12). PyPI's torch is the CUDA build; for the CPU
# build: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make ...
PYTHON ?= python3
BIN := .venv/bin

.PHONY: bench test lint speed

bench: .venv/ready
	$(BIN)/python run_benchmark.py run --profile quick

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Ratios to yardsticks timed in the same run, and how cost grows, to results/ and reports/speed: half an hour, on a machine
# that does nothing else. SPEED="--speed-trained DIR" names results of trainings on which reduced precision is judged.
speed: .venv/ready
	$(BIN)/python -m pytest -m speed --benchmark-enable --benchmark-disable-gc -s $(SPEED) tests/speed
	$(BIN)/python run_benchmark.py growth

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt '.[test]'
	touch .venv/ready
