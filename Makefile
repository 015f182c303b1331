# Each target sets up what it needs in .venv by itself. PYTHON: any CPython from 3.11 on.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# --no-compile: Python compiles what is imported, when it is; all of torch takes longer than to install it
PIP := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt
EXTRA ?= cpu
BUILDER ?= docker build
SEED ?= 0
INPUTS ?= 1000000
export PEERS ?= $(CURDIR)/build/peers
# --name=value where make was told so by VARIABLE=value: shells and platforms export a HOST and a PORT of their own
flag = $(if $(filter command,$(origin $(2))),--$(1)=$($(2)))

.PHONY: serve test fuzz lint fix openapi example-bundle bench bench-quick reliability bench-peers bench-bundle bench-digits gpu-wheel-check image image-check clean

serve: .venv/.serve  ## serve the shipped example, or VAE_BUNDLE, on port 8000 or PORT=9000, on this host or HOST=0.0.0.0; without torch
	$(BIN)/vae-serve $(call flag,port,PORT) $(call flag,host,HOST)

# in the order of the files: else those with the fewest tests come last, some of which take a minute, on one core alone
test: .venv/.dev  ## run every test, two files at a time
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

fuzz: .venv/.dev  ## a million inputs to every parser, and the memory that bombs take; what fails is in build/fuzz
	$(BIN)/python -m benchmarks.bombs
	$(BIN)/python -m benchmarks.fuzz --inputs $(INPUTS) --seed $(SEED)

lint: .venv/.dev  ## formatting, rules, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: .venv/.dev  ## format, and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: .venv/.dev  ## record the examples of the OpenAPI document from the service, and write docs/openapi.json again
	$(BIN)/python -m tests.openapi

example-bundle: .venv/.dev  ## train the shipped example again: scikit-learn's digits, Gaussian
	rm -rf build/example
	$(BIN)/vae-train fit --data sklearn:digits --likelihood gaussian --output build/example/digits \
		--hidden 128 --batch-size 64 --epochs 600 --warmup-epochs 10 --patience 60 --seed 0 --threads 1 \
		--checkpoint build/example/checkpoint.npz --log build/example/fit.jsonl
	rm -rf deploy/models/digits/1
	mv build/example/digits/1 deploy/models/digits/1
	$(MAKE) openapi

bench: .venv/.dev  ## measure the service beside its peers, write benchmarks/README.md; BENCH=--resume, a part
	$(BIN)/python -m benchmarks.serving $(BENCH)

bench-quick: .venv/.dev  ## the same as a smoke run of a few minutes, into build/bench-quick
	$(BIN)/python -m benchmarks.serving --quick $(BENCH)

reliability: .venv/.dev  ## do to the service what must not harm it, write benchmarks/reliability.md; PART=overload: a part
	$(BIN)/python -m benchmarks.reliability $(PART)

bench-peers: $(patsubst benchmarks/serving/peers/%.txt,$(PEERS)/%/.done,$(wildcard benchmarks/serving/peers/*.txt))  ## the servers that ours is measured beside, each in an environment of its own

$(PEERS)/%/.done: benchmarks/serving/peers/%.txt
	$(PYTHON) -m venv $(PEERS)/$*
	$(PEERS)/$*/bin/pip install --quiet --disable-pip-version-check --requirement $<
	if [ -f $(<:.txt=.py) ]; then cp $(<:.txt=.py) $$($(PEERS)/$*/bin/python -c 'import site; print(site.getsitepackages()[0])')/sitecustomize.py; fi
	touch $@

bench-bundle: .venv/.dev  ## the bundle of the server benchmarks: MLP 784-400-400-32, untrained
	$(BIN)/python -m training.bench_bundle --output build/bench

bench-digits: .venv/.dev  ## digits against noise and shuffled pixels, and the false alarms
	$(BIN)/python -m benchmarks.digits

gpu-wheel-check: .venv/.dev  ## the provider policy against the real onnxruntime-gpu wheel, in an environment of its own
	$(PYTHON) -m venv build/gpu-wheel
	build/gpu-wheel/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt . onnxruntime-gpu httpx
	build/gpu-wheel/bin/python tests/gpu_wheel_check.py deploy/models/digits 2> build/gpu-wheel.log

image:  ## build the image vae-serve:$(EXTRA); EXTRA=cpu or gpu, BUILDER='buildah bud --format docker' without Docker
	$(BUILDER) --build-arg EXTRA=$(EXTRA) --tag vae-serve:$(EXTRA) .

image-check: .venv/.dev  ## start the server of vae-serve:$(EXTRA) from a read-only root and check it: as root, on Linux
	$(BIN)/python -m tests.image_check --engine $(firstword $(BUILDER)) vae-serve:$(EXTRA)

clean:  ## forget the environments and what was built
	rm -rf .venv build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.serve: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[cpu,images]'
	touch $@

.venv/.dev: .venv/.serve
	$(PIP) --editable '.[cpu,images,arrow,training,dev]'
	touch $@
