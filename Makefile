# Development tasks. Each makes its own environment in .venv when it is needed.
#
#   make demo    show what the library does
#   make check   style, types, import contracts, links
#   make test    make check, then all tests: what CI runs
#   make servers  build MinIO with Go, for the tests that take it where it is; three minutes
#   make bench   compare with other tools; needs 17 GB of tmpfs and, at first, the network
#   make clean   remove everything that can be made again
#
# Another Python: make test PYTHON=python3.12
# A smaller benchmark: make bench BENCH="--scale 0.1 --rounds 1 --corpora tree"

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
VAULT = src/loopbackup/vault
CORE = $(VAULT)/content/chunker/_jpc.c $(VAULT)/disk/_disk.c
BUILT = $(VAULT)/content/chunker/_jpc*.so $(VAULT)/disk/_disk*.so

# Pinned: the tests say what this one does.
MINIO = github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

.PHONY: demo check test servers bench clean

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_links.py

test: check
	$(BIN)/python -m pytest -n 2

servers: $(INSTALLED)
	@command -v go > /dev/null || { echo "make servers needs Go: https://go.dev/dl" >&2; exit 1; }
	GOBIN=$(CURDIR)/$(BIN) go install $(MINIO)

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.compare $(BENCH)

clean:
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf src/loopbackup.egg-info $(BUILT)
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml setup.py $(CORE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "loopbackup needs Python 3.11 or newer; '$(PYTHON)' is older or missing." >&2; \
		echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@rm -f $(BUILT) # A core that no longer compiles must not live on as an old one.
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(INSTALLED)
