# make demo and make test set up all they need in .venv; `make help` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
PYTEST ?= -n auto
FUZZ_SECONDS ?= 60

BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export AIOMOS_TEST_NATIVE := 1

.PHONY: help demo test lint types docs asan fuzz bench package clean install build

help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build  ## set up, then run monitors over captures that ship and show what they find
	aiomos run flowlog --set format=table --pcap tests/data/http.pcap tests/data/loss_receiver.pcap tests/data/reset.pcap
	aiomos run docs/examples/http_log.py --pcap tests/data/http.pcap

test: build $(VENV)/test  ## set up, then run every test
	python -m pytest $(PYTEST)

lint: types  ## check style, types and stubs, and that Cython has nothing to remark
	ruff check .
	ruff format --check .
	cython-lint aiomos tests/native
	python tools/cython_hints.py

STUBS = $(subst /,.,$(basename $(shell find aiomos -name '*.pyi')))

types: build $(VENV)/test $(VENV)/lint
	mypy
	PYTHONPATH=. stubtest $(STUBS) --ignore-missing-stub --ignore-disjoint-bases

docs: build $(VENV)/docs  ## build the documentation into site/
	mkdocs build --strict --quiet

bench: install  ## compare with other libraries; BENCH=--quick is passed on
	-$(VENV)/bin/pip install --quiet nfstream scapy
	$(VENV)/bin/python benchmarks/bench.py $(BENCH)

# Python itself is not instrumented: the sanitizers' runtime is loaded ahead of it, and memory comes from
# malloc, whose blocks they know.
SANITIZED = PYTHONPATH=. PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1

# Left out: programs not written here, which the runtime would be loaded into, too, and a test that measures memory.
asan: $(VENV)/test  ## run the tests and many mutated captures under AddressSanitizer and UBSan
	$(call copy_to,build/asan)
	cd build/asan && AIOMOS_BUILD=asan python setup.py --quiet build_ext --inplace
	cd build/asan && $(SANITIZED) AIOMOS_MUTATIONS=20 \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    python -m pytest $(PYTEST) --timeout=600 --ignore-glob='*interop*' -k 'not memory_is_bounded'

fuzz: $(VENV)/fuzz  ## fuzz each target of tests/fuzz for FUZZ_SECONDS, led by coverage; needs clang
	@command -v clang > /dev/null || { echo "make fuzz needs clang: apt-get install clang"; exit 1; }
	$(call copy_to,build/fuzz)
	cd build/fuzz && AIOMOS_BUILD=fuzz CC=clang python setup.py --quiet build_ext --inplace
	cd build/fuzz && for target in frames captures in_line meddled; do \
	    $(SANITIZED) LD_PRELOAD="$$(python -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so" \
	    python -m tests.fuzz.fuzz $$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit 1; \
	done

package:  ## build sdist and wheel, look into them, and run what they install
	$(PYTHON) tools/check_package.py

clean:  ## remove what was built
	rm -rf build dist site *.egg-info $(VENV)
	find aiomos tests \( -name '*.so' -o -name '*.c' -o -name '*.html' \) -delete

install: $(VENV)/install

# The install is editable: what has changed since is compiled again in place.
build: install
	@python setup.py --quiet build_ext --inplace

$(VENV)/install: pyproject.toml setup.py
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	pip install --quiet 'setuptools>=77' 'cython>=3.1'
	pip install --quiet --no-build-isolation --editable .
	@touch $@

# One for each extra of pyproject.toml that is needed.
$(VENV)/test $(VENV)/lint $(VENV)/docs $(VENV)/fuzz: $(VENV)/install
	pip install --quiet --no-build-isolation --editable '.[$(@F)]'
	@touch $@

# A tree of its own for modules that are compiled otherwise.
define copy_to
mkdir -p $(1)
tar -cf - --exclude='*.so' --exclude=__pycache__ --exclude=./build --exclude=./.git --exclude=./$(VENV) . | tar -xf - -C $(1)
endef
