# What a newcomer needs. All targets use one .venv with Python 3.11 or newer, which the first of them makes. `test` also
# makes .venv-upstream, `test-slow` .venv-nnunet, for the tests against those packages, `bench` .venv-peers.

.PHONY: demo test test-slow test-peers test-servers chaos soak fuzz lint bench bench-full docs clean
.DEFAULT_GOAL := demo

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
READY := .venv/.installed
# The TileDB-based package, in an environment of its own: tests import the studies that it writes.
UPSTREAM := .venv-upstream/.installed
# Peers of the benchmarks: h5py, blosc2, indexed_gzip (with which nibabel reads otherwise), ngff-zarr.
PEERS := .venv-peers/.installed
# nnU-Net, whose torchvision must not be seen by all else.
NNUNET := .venv-nnunet/.installed

# The first of these that runs and is new enough; `make PYTHON=/path/to/python` overrides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

demo: $(READY)
	$(BIN)/radiobject demo

test: $(READY) $(UPSTREAM)
	$(BIN)/python -m pytest -q -m "not peers and not slow" -n logical --dist loadfile

# Killed writers, failing stores, hostile files, training, the blocks of all pages, the benchmarks on little data.
test-slow: $(READY) $(UPSTREAM) $(NNUNET)
	$(BIN)/python -m pytest -q -m slow -n logical --dist loadfile

# Readers outside Python: zarrita.js wants node and npm, Neuroglancer a Chromium (skipped without one).
test-peers: .venv/.installed-viewer tests/peers/node_modules/.installed
	$(BIN)/python -m pytest -q -m peers

# The model's core and all else that is about S3 on a real server: Ceph's radosgw, fetched from Debian's packages once.
test-servers: $(READY)
	RADIOBJECT_S3=radosgw $(BIN)/python -m pytest -q tests/s3 tests/servers

# The same tests of crashes, faults, races and random histories, for much longer: thousands of faults, 500 kills.
chaos: $(READY)
	RADIOBJECT_CHAOS_SECONDS=200 RADIOBJECT_EXAMPLES=300 RADIOBJECT_RACE_ROUNDS=200 $(BIN)/python -m pytest -q -s \
		tests/format/test_race.py tests/format/test_two_writers.py tests/model/test_killed_changes.py \
		tests/test_stateful.py tests/faults --timeout=7200

# Sixteen readers for ten minutes while a study is changed without a pause.
soak: $(READY)
	RADIOBJECT_SOAK_SECONDS=$${RADIOBJECT_SOAK_SECONDS:-600} $(BIN)/python -m pytest -q -s tests/faults/test_readers.py

# Damaged studies, volumes, filters, NIfTI and DICOM files for RADIOBJECT_FUZZ_SECONDS in all, shared among ten
# targets: each input is read soundly or refused. docs/reliability.md says how to see a fault again.
fuzz: $(READY)
	RADIOBJECT_FUZZ_SECONDS=$${RADIOBJECT_FUZZ_SECONDS:-600} $(BIN)/python -m pytest -q -s tests/fuzz \
		tests/ingest/test_dicom_fuzz.py --timeout=36000

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# This package against every peer: a quick look; and everything, written into the pages (half an hour, 12 GB).
bench: $(READY) $(UPSTREAM) $(PEERS)
	$(BIN)/python benchmarks

bench-full: $(READY) $(UPSTREAM) $(PEERS)
	$(BIN)/python benchmarks --full --json benchmarks/results/bench.json
	$(BIN)/python benchmarks --page benchmarks/results/bench.json

# The pictures (Chromium must be there), and the site with the notebooks of examples/, run, into build/site.
docs: .venv/.installed-docs
	$(BIN)/python docs/pictures
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

clean:
	rm -rf .venv .venv-upstream .venv-nnunet .venv-peers .cache demo-out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/peers/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Anew whenever the list of dependencies changes.
$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found. Install one, or run" \
		"make PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make a virtual environment. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,demo]"
	@touch $@

$(UPSTREAM) $(PEERS): .venv-%/.installed: benchmarks/environments.py | $(READY)
	$(BIN)/python benchmarks/environments.py $*
	@touch $@

$(NNUNET): tests/ml/nnunet_env.py | $(READY)
	$(BIN)/python tests/ml/nnunet_env.py
	@touch $@

.venv/.installed-viewer: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,demo,viewer]"
	@touch $@

.venv/.installed-docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,demo,docs]"
	@touch $@

tests/peers/node_modules/.installed: tests/peers/package.json
	cd tests/peers && if test -f package-lock.json; then npm ci --no-audit --no-fund; \
		else npm install --no-audit --no-fund; fi
	@touch $@
