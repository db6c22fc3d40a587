# make demo and make test set up all they need in .venv; see `make help`.

PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV ?= .venv
FUZZ_SECONDS ?= 60
PYTEST ?= -n auto

BIN = $(abspath $(VENV))/bin
PY = $(BIN)/python
CAPTURES = tests/data
SOURCES = aiomos tests setup.py pyproject.toml README.md LICENSE

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export AIOMOS_TEST_NATIVE = 1

.DEFAULT_GOAL := help
.PHONY: help demo install build test lint types docs asan fuzz bench package clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

demo: build  ## set up, then run monitors over the captures that ship and show what they find
	@echo
	$(BIN)/aiomos run flowlog --set format=table --pcap $(CAPTURES)/http.pcap $(CAPTURES)/loss_receiver.pcap $(CAPTURES)/reset.pcap
	@echo
	$(BIN)/aiomos run docs/examples/http_log.py --pcap $(CAPTURES)/http.pcap

test: build $(VENV)/test  ## set up, then run every test
	$(PY) -m pytest $(PYTEST)

lint: build $(VENV)/lint types  ## check form, types, stubs, and that Cython has nothing to remark
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cython-lint aiomos tests/native
	$(PY) tools/cython_hints.py

types: build $(VENV)/test $(VENV)/lint
	$(BIN)/mypy
	$(BIN)/stubtest aiomos --allowlist tools/stubtest.allow --ignore-missing-stub

docs: build $(VENV)/docs  ## build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

bench: install  ## compare with other libraries; BENCH="--quick" is passed on
	-$(BIN)/pip install --quiet nfstream scapy
	$(PY) benchmarks/bench.py $(BENCH)

# Python itself is not instrumented: the sanitizers' runtime is loaded ahead of it, and memory comes from malloc, whose
# bounds they know.
SANITIZED = PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 AIOMOS_MUTATIONS=20

asan: $(VENV)/test  ## run every test, and mutations of every capture, under AddressSanitizer and UBSan
	$(call copy,build/asan)
	cd build/asan && AIOMOS_BUILD=asan $(PY) setup.py --quiet build_ext --inplace
	cd build/asan && $(SANITIZED) PYTHONPATH=. \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    $(PY) -m pytest $(PYTEST)

fuzz: $(VENV)/fuzz  ## fuzz frames and capture files, FUZZ_SECONDS each, led by coverage; needs clang
	@command -v clang > /dev/null || { echo "make fuzz needs clang: apt-get install clang"; exit 1; }
	$(call copy,build/fuzz)
	cd build/fuzz && AIOMOS_BUILD=fuzz CC=clang $(PY) setup.py --quiet build_ext --inplace
	for target in frames captures; do \
	    ( cd build/fuzz && $(SANITIZED) LD_PRELOAD="$$($(PY) -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so" \
	      $(PY) -m tests.fuzz.fuzz $$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 ) || exit 1; \
	done

package:  ## build sdist and wheel, look into them, and install the wheel afresh
	$(PYTHON) tools/check_package.py

clean:  ## remove everything that was built
	rm -rf build dist site *.egg-info $(VENV)
	find aiomos tests \( -name '*.so' -o -name '*.c' -o -name '*.html' \) -delete

# An editable install compiles in place; after that only what has changed is compiled.
install: $(VENV)/install

build: install
	@$(PY) setup.py --quiet build_ext --inplace

$(VENV)/install: pyproject.toml setup.py
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet 'setuptools>=77' 'cython>=3.1'
	$(BIN)/pip install --quiet --no-build-isolation --editable .
	@touch $@

# The requirements of an extra of pyproject.toml, test for $(VENV)/test.
$(VENV)/test $(VENV)/lint $(VENV)/docs $(VENV)/fuzz: $(VENV)/%: $(VENV)/install
	$(BIN)/pip install --quiet $$($(PY) tools/requirements.py $*)
	@touch $@

# A tree of its own for modules that are compiled otherwise.
define copy
@mkdir -p $(1)
@tar -cf - --exclude='*.so' --exclude='*.c' --exclude=__pycache__ $(SOURCES) | tar -xf - -C $(1)
endef
