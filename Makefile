# make demo and make test set up all they need in .venv; `make help` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
PYTEST ?= -n auto
FUZZ_SECONDS ?= 60
MUTATE ?= --count 30

BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test nightly lint types docs asan fuzz coverage mutate bench package newcomer clean install build build-tests

help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build  ## set up, then run monitors over captures that ship and show what they find
	aiomos run flowlog --set format=table --pcap tests/data/http.pcap tests/data/loss_receiver.pcap tests/data/reset.pcap
	aiomos run docs/examples/http_log.py --pcap tests/data/http.pcap

test: build-tests $(VENV)/test  ## set up, then run every test
	python -m pytest $(PYTEST)

ORDERS ?= 1 2 3
ALONE ?= tests

nightly: build-tests $(VENV)/test $(VENV)/docs  ## run every test in random orders, and each file by itself
	for seed in $(ORDERS); do \
	    python -m pytest $(PYTEST) --random-order-bucket=global --random-order-seed=$$seed || exit 1; \
	done
	ls -d $(ALONE) > /dev/null
	find $(ALONE) -name 'test_*.py' -print0 | sort -z | xargs -0 -r -n 1 -P "$$(nproc)" python tools/test_alone.py

lint: types  ## check style, types and stubs, and that Cython has nothing to remark
	ruff check .
	ruff format --check .
	cython-lint aiomos tests/native
	python tools/cython_hints.py

STUBS = $(subst /,.,$(basename $(shell find aiomos -name '*.pyi')))

types: build-tests $(VENV)/test $(VENV)/lint
	mypy
	mypy -p tools.mutate
	PYTHONPATH=. stubtest $(STUBS) --ignore-missing-stub --ignore-disjoint-bases

docs: build $(VENV)/docs  ## build the documentation into site/
	mkdocs build --strict --quiet

bench: build  ## compare with other libraries, after saying what that needs; BENCH="--quick --only mix" is passed on
	-pip install --quiet nfstream scapy
	python benchmarks/bench.py $(BENCH)

# Python itself is not instrumented: the sanitizers' runtime is loaded ahead of it, and memory comes from
# malloc, whose blocks they know.
SANITIZED = PYTHONPATH=. PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0$(LOG) UBSAN_OPTIONS=print_stacktrace=1$(LOG)

# What the sanitizers report goes into files, which are printed at the end: pytest keeps what a dying process prints.
asan: LOG = :log_path=$$PWD/build/reports/report
# Left out: programs not written here, which the runtime would be loaded into, too, and a test that measures memory.
asan: $(VENV)/test  ## run the tests and many mutated captures under AddressSanitizer and UBSan
	$(call copy_to,build/asan)
	cd build/asan && AIOMOS_BUILD=asan AIOMOS_TEST_NATIVE=1 python setup.py --quiet build_ext --inplace
	rm -rf build/asan/build/reports && mkdir -p build/asan/build/reports
	cd build/asan && $(SANITIZED) AIOMOS_MUTATIONS=20 \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    python -m pytest $(PYTEST) --timeout=600 --ignore-glob='*interop*' -k 'not memory_is_bounded'; \
	status=$$?; \
	for report in $$(find build/reports -type f -size +0); do echo "--- $$report"; cat $$report; status=1; done; \
	exit $$status

coverage: $(VENV)/test $(VENV)/coverage  ## run the tests and show which lines and branches they reach, Cython's too
	$(call copy_to,build/coverage)
	cd build/coverage && AIOMOS_BUILD=coverage AIOMOS_TEST_NATIVE=1 python setup.py --quiet build_ext --inplace
	cd build/coverage && find build -name '*.gcda' -delete && rm -f .coverage*
	-cd build/coverage && PYTHONPATH=. python -m coverage run -m pytest $(PYTEST) --timeout=600
	python tools/coverage_table.py build/coverage

fuzz: $(VENV)/fuzz  ## fuzz each target of tests/fuzz for FUZZ_SECONDS, led by coverage; needs clang
	@command -v clang > /dev/null || { echo "make fuzz needs clang: apt-get install clang"; exit 1; }
	$(call copy_to,build/fuzz)
	cd build/fuzz && AIOMOS_BUILD=fuzz AIOMOS_TEST_NATIVE=1 CC=clang python setup.py --quiet build_ext --inplace
	cd build/fuzz && for target in frames captures in_line meddled; do \
	    $(SANITIZED) LD_PRELOAD="$$(python -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so" \
	    python -m tests.fuzz.fuzz $$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit 1; \
	done

mutate: build-tests $(VENV)/test  ## plant faults in a copy, run the tests, print what they miss; MUTATE="--changed-since main~1"
	python -m tools.mutate $(MUTATE)

package:  ## build sdist and wheels, look into them, and use what they install
	$(PYTHON) tools/check_package.py

newcomer:  ## do what README and tutorial say, in a fresh clone
	$(PYTHON) tools/newcomer.py

clean:  ## remove what was built
	rm -rf build dist site *.egg-info $(VENV)
	find aiomos tests \( -name '*.so' -o -name '*.c' -o -name '*.html' \) -delete

install: $(VENV)/install

# The install is editable: what has changed since is compiled again in place.
build: install
	@python setup.py --quiet build_ext --inplace

# With the modules of tests/native, which nobody else needs.
build-tests: install
	@AIOMOS_TEST_NATIVE=1 python setup.py --quiet build_ext --inplace

$(VENV)/install: pyproject.toml setup.py
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	pip install --quiet 'setuptools>=77' 'cython>=3.2.1'
	@python setup.py --quiet build_ext --inplace
	pip install --quiet --no-build-isolation --editable .
	@touch $@

# One for each extra of pyproject.toml that is needed.
$(VENV)/test $(VENV)/lint $(VENV)/docs $(VENV)/fuzz $(VENV)/coverage: $(VENV)/install
	pip install --quiet --no-build-isolation --editable '.[$(@F)]'
	@touch $@

# A tree of its own for modules that are compiled otherwise.
# What is gone here goes there, too, compiled or not; what was built stays, and so does what a fuzzer has found.
SHARED = _cyutility
define copy_to
mkdir -p $(1)
find $(1) -path $(1)/build -prune -o -type f ! -name '*.so' ! -name 'crash-*' -exec rm -f {} +
tar -cf - --exclude='*.so' --exclude=__pycache__ --exclude=./build --exclude=./.git --exclude=./$(VENV) . | tar -xf - -C $(1)
find $(1)/aiomos $(1)/tests -name '*.so' ! -name '$(SHARED).*' | while read -r built; do \
    [ -e "$${built%%.*}.pyx" ] || rm "$$built"; \
done
endef
