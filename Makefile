# make demo    install, train on the built-in sample and on digits, with and without APR    make lint    ruff and mypy
# make test    install, run the whole test suite      make test-fast    all but the slow tests: minutes
# make bench   the benchmarks of this machine
# make gpu-check    the GPU's tests and benchmarks      make sanitize    the native operators under sanitizers
# make test-lowest    the test suite with the lowest versions that pyproject.toml admits      make test-newest    the newest
# make soak    ten minutes of loaders: memory, threads and files    make docs    the API reference, as docs/api/
# CUDA=cuda13 takes the other stack: torch >= 2.11, for drivers from CUDA 13 on.

CUDA ?= cuda12
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# To run, and to test as well.
INSTALLED = $(VENV)/.installed-$(CUDA)
TESTING = $(VENV)/.testing-$(CUDA)

# A small network and small images: minutes on two CPU cores.
DEMO = --aug apr-sp --data sample --model shufflenet_v2_x0_5 --image-size 64 --epochs 12 --batch-size 32 \
	--lr 0.02 --lr-steps 9 11 --warmup-epochs 1 --output runs/demo

# Half of the epochs of the study that the README quotes, two of its seeds.
DIGITS = --methods standard "APR-SP, wrap" --seeds 2 --epochs 6 --output runs/demo/digits

# What the API reference is made of: the names that people import.
API = $(addprefix apr_dali.,functional draws corruptions corruptions.draws kernels.corruptions recipes errors spectral transforms \
	transforms.augmentations augmentations augmentations.functional augmentations.plan augmentations.record augmentations.registry \
	augmentations.afa augmentations.amplitude_mix augmentations.fda augmentations.hybrid_pair augmentations.hybrid_single \
	augmentations.prime augmentations.prime_draws augmentations.randconv augmentations.spectral_gains augmentations.vipaug \
	pipelines.loader pipelines.cifar_loader pipelines.batch_options pipelines.corrupted pipelines.operators pipelines.erasing \
	pipelines.dynamic pipelines.dynamic_loader pipelines.torchvision \
	data.arrays data.folders data.image_file data.image_list data.image_ids data.sample data.sampling data.small_corruptions data.tars data.tar_sources \
	training.engine training.losses training.options runtime.exit_status runtime.spin_count runtime.torch_threads cli \
	models models.auxiliary models.registry integrations.timm integrations.lightning integrations.torchdata \
	eval eval.suite eval.comparison eval.session eval.result eval.evaluations.clean eval.evaluations.corruption \
	eval.evaluations.corruption_on_the_fly eval.evaluations.ood eval.evaluations.openood \
	eval.evaluations.perturbation \
	eval.evaluations.calibration eval.evaluations.autoattack eval.evaluations.distribution_shift \
	eval.evaluations.filters eval.evaluations.gradcam eval.evaluations.heatmap eval.evaluations.swap eval.evaluations.templates eval.evaluations.tsne \
	eval.bootstrap eval.clean eval.corruption eval.ood eval.ood_kinds eval.ood_scores eval.ood_search eval.calibration eval.autoattack)

.PHONY: demo test test-fast test-lowest test-newest lint bench soak docs gpu-check sanitize clean

$(INSTALLED): pyproject.toml setup.py $(wildcard kernels/cpu/*.cpp kernels/cpu/*.hpp)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "== 1 of 3: a virtual environment in $(VENV) (seconds)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "== 2 of 3: the native operators are compiled (about two minutes on two cores; pip shows nothing of it)"
	$(BIN)/python -m pip install --no-deps --editable .
	@echo "== 3 of 3: torch, DALI and CuPy (4 GB to download, 8 GB on the disk: about five minutes)"
	$(BIN)/python -m pip install "apr_dali[$(CUDA)]"
	rm -f $(VENV)/.installed-* $(VENV)/.testing-*
	touch $@

# Of what is installed already: nothing is compiled again.
$(TESTING): $(INSTALLED)
	@echo "== what the tests and the checks need (about a minute)"
	$(BIN)/python -m pip install "apr_dali[$(CUDA),dev]"
	touch $@

demo: $(INSTALLED)
	@echo "== a sample of photographs in sample/ (seconds)"
	$(BIN)/apr-dali sample sample
	rm -rf runs/demo
	@echo "== 1 of 2: that it runs: 12 epochs on it, with APR-SP (about a minute on two cores)"
	$(BIN)/torchrun --standalone train_imagenet.py $(DEMO)
	@echo "== 2 of 2: what APR buys: digits, without APR and with APR-SP, clean and corrupted (about two minutes)"
	$(BIN)/python experiments/digits_robustness.py $(DIGITS)

test: $(TESTING)
	@echo "== the test suite (about twelve minutes on two cores)"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-fast: $(TESTING)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow"

# Each in an environment of its own, made anew: 9 GB each, which `make clean` removes. TESTS=tests/pipelines for a part.
TESTS ?= tests
test-lowest: RESOLUTION = lowest-direct
test-newest: RESOLUTION = highest
test-newest: CUDA = cuda13
test-lowest test-newest:
	$(PYTHON) -m venv --clear $(VENV)-$@
	$(VENV)-$@/bin/python -m pip install --quiet uv
	$(VENV)-$@/bin/uv pip install --python $(VENV)-$@ --resolution $(RESOLUTION) --editable ".[$(CUDA),test]"
	$(VENV)-$@/bin/uv pip list --python $(VENV)-$@
	OMP_NUM_THREADS=1 $(VENV)-$@/bin/python -m pytest --numprocesses auto --dist worksteal -m "not slow" $(TESTS)

lint: $(TESTING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python benchmarks/cpu.py
	$(BIN)/apr-dali bench

soak: $(INSTALLED)
	$(BIN)/python benchmarks/soak.py

docs: $(TESTING)
	$(BIN)/python docs/floors.py
	$(BIN)/python docs/api.py docs/api $(API)

gpu-check: $(TESTING)
	$(BIN)/python -c 'import torch; torch.cuda.is_available() or exit("gpu-check needs a CUDA device: see apr-dali doctor")'
	PYTHON=$(BIN)/python benchmarks/gpu_check.sh tier1
	PYTHON=$(BIN)/python benchmarks/gpu_check.sh tier2

sanitize: $(TESTING)
	kernels/cpu/sanitize.sh $(BIN)/python

clean:
	rm -rf $(VENV) $(VENV)-test-lowest $(VENV)-test-newest build dist *.egg-info
