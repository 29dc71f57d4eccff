# make demo    install, write the built-in sample, train on it        make lint    ruff and mypy
# make test    install, run the whole test suite                      make bench   the benchmarks of this machine
# make gpu-check    the GPU tests and benchmarks, where there is one
# CUDA=cuda13 takes the other stack: torch >= 2.11, for drivers from CUDA 13 on.

CUDA ?= cuda12
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed-$(CUDA)

DEMO = --aug apr-sp --data sample --model resnet18 --image-size 64 --epochs 10 --batch-size 64 --output runs/demo

.PHONY: demo test lint bench gpu-check clean

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --editable ".[$(CUDA),dev]"
	rm -f $(VENV)/.installed-*
	touch $@

demo: $(INSTALLED)
	$(BIN)/apr-dali sample sample
	rm -rf runs/demo
	$(BIN)/torchrun --standalone train_imagenet.py $(DEMO)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python benchmarks/loader.py

gpu-check: $(INSTALLED)
	$(BIN)/python -m pytest -m gpu

clean:
	rm -rf $(VENV) build dist *.egg-info
