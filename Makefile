# Every target sets up what it needs, with the newest Python there is (.ci/python). With another, or with
# other versions of packages: make test PYTHON=python3.12 VENV=.venv-3.12 PINS="numpy==2.1.0"
# RESOLUTION=lowest-direct takes the oldest versions that pyproject.toml allows.
PYTHON ?=
PINS ?=
RESOLUTION ?=
VENV ?= .venv
EXTRAS ?= test,dev
BIN := $(VENV)/bin
WORKERS ?= 2
# A file's tests share programs and fixtures, so one process takes all of them; in the order of
# tests/conftest.py, where what takes longest is first.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
LEVEL ?= steps
N ?= 200

# pip takes the newest versions; what else there is to choose, uv knows of, which pip brings.
INSTALL = $(BIN)/python -m pip install --quiet
ifneq ($(RESOLUTION),)
INSTALL = $(BIN)/python -m pip install --quiet uv && \
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --resolution $(RESOLUTION)
endif
# What to say where that fails, beside the reason.
NOT_INSTALLED = { echo "make: the packages of $(VENV) ($(or $(RESOLUTION),newest)) are not installed: either \
	the index cannot be reached, or a bound in pyproject.toml names what it does not have" >&2; exit 1; }

# What a change in JAX, Python or another package would show in, in a few minutes: operations with
# primitives of ours and all their derivatives, the training loop, exact resume, checkpoints, a step of a
# config of each task; every command, images, downloads, worker processes, and the service.
OLDEST_TESTS = tests/conformance/test_primitives.py $(addprefix tests/training/, loop run/test_checkpoint.py step) \
	tests/configs/test_shipped.py::test_one_step tests/app/test_main.py::test_train_then_everything_else \
	$(addprefix tests/training/data/, test_image.py test_fetch.py test_streaming.py) \
	tests/inference/serve/test_app.py

# The tests of what CONVAX_LOWERING=xla changes: convolution, pooling, resampling, normalization, and of
# networks those that compare numbers: each kind of block with PyTorch's, and a training of all layers. What
# is left out is the same on either lowering: shapes and counts of networks, layers that are held against
# their own operation, messages of errors, activations, losses and the like, which have one form. Of what
# fails in the plain forms, and may: tests of which form is taken, and XLA's own gradient of max pooling,
# which does not follow a NaN as PyTorch's does.
XLA_TESTS = tests/ops/conv tests/ops/pool tests/model/architectures/test_zoo_torch.py \
	tests/model/layers/test_layers.py::test_network_of_all_layers_trains \
	$(addprefix tests/conformance/, test_primitives.py test_several_forms.py) \
	$(addprefix tests/ops/, common/test_sparse_linear.py test_norm.py test_resize.py)
CPU_ONLY = tests/ops/pool/test_pool.py::test_nan_propagates \
	tests/ops/pool/test_adaptive.py::test_nan_as_pytorch_has_it

.PHONY: help train test test-slow test-all test-xla test-oldest test-newest conformance fuzz fault-injection accuracy check format-check lint types docs benchmark benchmark-native native native-wheel native-test native-sanitize address thread clean

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

train: $(VENV)/.use  ## train the embedded default: LeNet-5 on the handwritten digits
	$(BIN)/convax train

test: $(VENV)/.develop  ## the test suite, doctests included; or TESTS="tests/ops ..." of it
	$(PYTEST) $(TESTS)

test-slow: $(VENV)/.develop  ## the rest: whole trainings, large networks, installations, further cases; or TESTS="..." of it
	$(PYTEST) -m slow $(TESTS)

test-all: $(VENV)/.develop  ## both
	$(PYTEST) -m "slow or not slow" $(TESTS)

test-xla: $(VENV)/.develop  ## operations and networks once more, in their plain forms on CPU
	CONVAX_LOWERING=xla $(PYTEST) -m "slow or not slow" \
		-k "not many_drawn and not of_one_device and not over_four_devices and not to_write_instead" \
		$(XLA_TESTS) --ignore=tests/ops/conv/cpu --ignore=tests/ops/conv/native $(addprefix --deselect ,$(CPU_ONLY))

test-oldest: $(VENV)/.develop  ## a chosen part, for another end of the supported range
	$(PYTEST) $(OLDEST_TESTS)

NEWEST = VENV=.venv-newest EXTRAS=test,onnx,oracle,proposals
# For a job of every week: what came out since then, in an environment of its own.
test-newest:  ## all tests, with the newest version of every package, whatever CI has pinned
	rm -rf .venv-newest
	$(MAKE) $(NEWEST) .venv-newest/.develop
	.venv-newest/bin/python -m pip list
	$(MAKE) $(NEWEST) test-all

conformance: $(VENV)/.develop  ## every operation x oracle x transformation, as a table
	$(BIN)/python -m tests.conformance

fuzz: $(VENV)/.develop  ## 10,000 spoiled configs, 3,000 damaged files: docs/fuzz.md
	$(BIN)/python -m tests.fuzz configs --count 10000
	$(BIN)/python -m tests.fuzz files --count 2000
	$(BIN)/python -m tests.fuzz annotations --count 1000

fault-injection: $(VENV)/.develop  ## docs/fault-injection.md: N trainings killed, starved and damaged, and resumed
	$(BIN)/python -m tests.fault_injection --faults $(N) --seed 0 --write docs/fault-injection.md

accuracy: $(VENV)/.develop  ## docs/accuracy.md: float32 against float64
	$(BIN)/python -m tests.conformance --accuracy docs/accuracy.md

check: format-check lint types test  ## format, lint, types and the quick tests

format-check: $(VENV)/.develop
	$(BIN)/ruff format --check .

lint: $(VENV)/.develop
	$(BIN)/ruff check .

# pyright follows no import hook, which is what an editable installation of these folders is.
types: $(VENV)/.develop
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target build/types .
	$(BIN)/pyright --pythonpath $(BIN)/python

# Strict: a broken link or anchor, a page that nothing leads to and a parameter that is documented and not
# there are errors. To look at it while writing: .venv-docs/bin/mkdocs serve
docs:  ## the documentation as a site, in site/
	$(MAKE) VENV=.venv-docs EXTRAS=docs RESOLUTION=highest .venv-docs/.develop
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build

# With the system's C++ compiler; without one, and without this, everything works, and CPUs are slower.
native: | $(BIN)/python  ## build the native kernels of native/ and install them: docs/native.md
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall ./native

native-wheel: | $(BIN)/python  ## a wheel of them for machines like this one, in dist/
	$(BIN)/python -m pip wheel --quiet --no-deps ./native -w dist

NATIVE_TESTS = $(BIN)/python -m pytest -c native/pyproject.toml -s -n 0 -q native/tests
native-test: $(VENV)/.develop  ## every kernel against loops in float64, by itself; after make native
	$(NATIVE_TESTS)

# Sanitized libraries need the sanitizer's runtime in the process before Python allocates anything. Python
# itself leaks at its end. ThreadSanitizer watches what has threads.
SANITIZED = rm -rf build/native-$@ && $(BIN)/python -m pip wheel --quiet --no-deps ./native -w build/native-$@ \
	-C install.strip=false -C cmake.define.SANITIZE=$(1) && \
	$(BIN)/python -m zipfile -e build/native-$@/*.whl build/native-$@ && \
	LD_PRELOAD="$$(c++ -print-file-name=$(2)) $$(c++ -print-file-name=libstdc++.so)" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=halt_on_error=1 $(NATIVE_TESTS) --libraries build/native-$@/convax_kernels
native-sanitize: address thread  ## the same under AddressSanitizer and UBSan, and under ThreadSanitizer
comma := ,
address: $(VENV)/.develop
	$(call SANITIZED,address$(comma)undefined,libasan.so)
thread: $(VENV)/.develop
	$(call SANITIZED,thread,libtsan.so) -k "drawn or several"

# The others: make benchmark LEVEL=ops, inference, latency, seeds or dtypes; options: make benchmark ARGS=--quick
benchmark: $(VENV)/.bench  ## the training step against Flax, Equinox and PyTorch
	$(BIN)/python benchmarks/$(LEVEL).py $(ARGS)

# What decides whether they may be the default, in half an hour of an otherwise idle machine: every kernel,
# then whole training steps of nine networks, then inference, each with and without them and by PyTorch.
benchmark-native: $(VENV)/.bench  ## the native kernels: each, in training and in inference; after make native
	$(BIN)/python benchmarks/native.py --rounds 5
	$(BIN)/python benchmarks/steps.py --rounds 5 --without flax --without equinox --without plain --without torch.compile
	$(BIN)/python benchmarks/latency.py --rounds 5 --without torch.compile

clean:  ## remove the environments and what was built
	rm -rf .venv* build dist site *.egg-info

$(BIN)/python:
	python="$(or $(PYTHON),$$(.ci/python))" && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.use: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.develop: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable ".[$(EXTRAS)]" $(PINS) || $(NOT_INSTALLED)
	touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	touch $@
