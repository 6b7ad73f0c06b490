# Every target sets up .venv first, where it is missing or older than what it is made from.

# The first of these that is Python 3.11 or newer; `make PYTHON=/a/python tiny` takes another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
READY := .venv/.ready

.PHONY: help tiny test slow check bench abuse

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' Makefile

tiny: $(READY)  ## the whole recipe on a laptop: text in, a chat model and its report out
	.venv/bin/baiwen run recipes/tiny

# A process a core, up to four, each with a thread: threads of two processes would wait for each other.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n logical --maxprocesses 4 \
	--dist loadfile --no-loadscope-reorder --durations 20

test: $(READY)  ## run the tests, but for those that take long
	$(PYTEST) -m "not slow"

slow: $(READY)  ## run the tests that take long
	$(PYTEST) -m slow

check: $(READY)  ## lint, format, types, and the rules of the house
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/python -m pytest tests/test_floors.py

abuse: $(READY)  ## the server under all the hostile requests
	ABUSE=1 .venv/bin/python -m pytest --timeout 0 \
		tests/serve/test_abuse.py tests/serve/test_leaving.py tests/serve/test_schemathesis.py

bench: $(READY)  ## measure every claim, each beside its peer
	.venv/bin/python -m benchmarks.train_step --write
	.venv/bin/python -m benchmarks.train_step --write --spin
	.venv/bin/python -m benchmarks.train_step --write --share
	.venv/bin/python -m benchmarks.memory --write
	.venv/bin/python -m benchmarks.memory --write --large
	.venv/bin/python -m benchmarks.clock --write
	.venv/bin/python -m benchmarks.sft --write $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))
	.venv/bin/python -m benchmarks.dpo --write $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))
	.venv/bin/python -m benchmarks.reward --write $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))
	.venv/bin/python -m benchmarks.grpo --write $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))
	.venv/bin/python -m benchmarks.verify_math --write
	.venv/bin/python -m benchmarks.sandbox --write
	.venv/bin/python -m benchmarks.kernels --write
	.venv/bin/python -m benchmarks.kernels --prefill --write
	.venv/bin/python -m benchmarks.tokenizer --write
	.venv/bin/python -m benchmarks.data --write $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))
	.venv/bin/python -m benchmarks.grammar --write
	.venv/bin/python -m benchmarks.decode --write $(if $(LLAMA_PYTHON),--llama $(LLAMA_PYTHON)) \
		$(if $(VLLM_PYTHON),--vllm $(VLLM_PYTHON))
	.venv/bin/python -m benchmarks.prefill --write $(if $(LLAMA_PYTHON),--llama $(LLAMA_PYTHON))
	.venv/bin/python -m benchmarks.prefill --long --write
	.venv/bin/python -m benchmarks.serve --write
	.venv/bin/python -m benchmarks.moe --write
	.venv/bin/python -m benchmarks.checkpoint --write
	.venv/bin/python -m benchmarks.tiny --write
	.venv/bin/python -m benchmarks.long --write

$(READY): pyproject.toml constraints.txt
	$(if $(PYTHON),,$(error Baiwen needs Python 3.11 or newer, and none is on the PATH; \
	install one, or name it: make PYTHON=/path/to/python))
	@echo "setting up .venv: a few minutes, mostly PyTorch's download"
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $(READY)
