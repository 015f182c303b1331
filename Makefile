# Each target sets up what it needs in .venv by itself. PYTHON: any CPython from 3.11 on.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: serve test lint fix example-bundle bench-bundle bench-digits bench-mnist gpu-wheel-check clean

serve: .venv/.serve  ## serve the shipped example on port 8000, on the CPU, without torch
	$(BIN)/vae-serve --bundle deploy/models/digits

test: .venv/.dev  ## run every test
	$(BIN)/pytest

lint: .venv/.dev  ## formatting, rules, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: .venv/.dev  ## format, and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gpu-wheel-check: .venv/.dev  ## the provider policy against the real onnxruntime-gpu wheel, in an environment of its own
	$(PYTHON) -m venv build/gpu-wheel
	build/gpu-wheel/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt . onnxruntime-gpu httpx
	build/gpu-wheel/bin/python tests/gpu_wheel_check.py deploy/models/digits 2> build/gpu-wheel.log

clean:  ## forget the environments and what was built
	rm -rf .venv build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.serve: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[cpu]'
	touch $@

.venv/.dev: .venv/.serve
	$(PIP) --editable '.[cpu,training,dev]'
	touch $@
