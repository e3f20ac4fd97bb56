# make demo and make test each set everything up on a fresh machine first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Clusters, hosts, whole collections and bounds of memory: these tests want the machine for themselves, after the others.
ALONE := $(wildcard $(addprefix tests/,hosts monitoring page ray security slurm ssh strangers system systemd))

.PHONY: setup demo test test-slurm slurm engines sshd chromium check bench soak interop clean

setup: $(STAMP)

$(STAMP): pyproject.toml deploy/setup.sh
	deploy/setup.sh "$(PYTHON)" "$(VENV)"
	touch $(STAMP)

demo: setup
	$(BIN)/headrace demo

test: setup build/prometheus slurm engines sshd chromium
	status=0; \
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ALONE:%=--ignore=%) || status=1; \
	$(BIN)/python -m pytest $(ALONE) || status=1; \
	exit $$status

# Alerts and dashboard are tested with a real one; nothing is installed.
build/prometheus: tests/monitoring/get_prometheus.sh
	tests/monitoring/get_prometheus.sh $@

# Collections on a real Slurm, on this machine: part of `make test` too.
test-slurm: setup slurm
	$(BIN)/python -m pytest tests/slurm tests/deploy/test_slurm_scripts.py

slurm:
	tests/slurm/install.sh

# systemd and kubectl, for what `headrace render` makes.
engines:
	tests/systemd/install.sh

# Collections over a real ssh, on loopback: tests/ssh.
sshd:
	tests/ssh/install.sh

# A browser for tests/page.
chromium:
	tests/page/install.sh

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/headrace bench collect --json bench.json

# The readers of other projects on what `headrace export` writes: environments of a few gigabytes below build/.
interop: setup
	$(BIN)/python -m tests.interop build/interop

soak: setup
	HEADRACE_SOAK_EXAMPLES=20000 $(BIN)/python -m pytest tests/protocol/test_delivery.py -o faulthandler_timeout=0
	HEADRACE_SOAK_IMAGES=20000 $(BIN)/python -m pytest tests/sink/test_crash_images.py -o faulthandler_timeout=0
	HEADRACE_SOAK_MIRROR_IMAGES=1000 $(BIN)/python -m pytest tests/sink/test_mirror.py -o faulthandler_timeout=0 --timeout 0
	HEADRACE_SOAK_MESSAGES=1000000 $(BIN)/python -m pytest tests/strangers -o faulthandler_timeout=0
	HEADRACE_SOAK_FAULTS=1000 HEADRACE_SOAK_SEED=$$(date +%s) $(BIN)/python -m pytest tests/system/test_chaos.py -o faulthandler_timeout=0
	HEADRACE_SOAK_PARTITION=30 $(BIN)/python -m pytest tests/hosts
	HEADRACE_SOAK_SCENES=1000 $(BIN)/python -m pytest tests/producers/namo/test_generator.py -o faulthandler_timeout=0 --timeout 0
	for run in 1 2 3; do $(BIN)/python -m pytest tests/publishing tests/security tests/system/test_leases.py || exit 1; done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
