# SPDX-License-Identifier: Apache-2.0
.PHONY: gpu-bench wheel test-python bench-python help deps build demo test bench bench-quick bench-full bench-stream bench-large bench-peers bench-svmlight examples gpu-check sanitize fuzz format docs install clean
PRESET ?= release
JOBS ?= $(shell nproc)

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 27
deps: ## install missing packages
	@scripts/install-deps.sh
build: deps
	@cmake --preset $(PRESET) >build-$(PRESET).log || (cat build-$(PRESET).log; exit 1)
	@cmake --build --preset $(PRESET) -j $(JOBS)
demo: build ## train dense and sparse networks on Fashion-MNIST and compare them
	@build/$(PRESET)/examples/demo
examples: build ## train on Debian's package index: sections, tags, dependencies
	@python3 examples/packages/packages.py build/packages
	@for example in section tags depends; do echo "== $$example"; build/$(PRESET)/examples/packages/$$example build/packages || exit 1; done
test: PRESET = ci
test: deps ## build and run every test
	cmake --preset ci && cmake --build --preset ci -j $(JOBS)
	ctest --test-dir build/release --output-on-failure --timeout 600 -j $(JOBS)
bench: build bench-peers ## every figure, against other libraries: half an hour
	@bench/run.sh build/$(PRESET)/bench
bench-quick: build ## the same cases, thinned, against dense
	@build/$(PRESET)/bench/bench-step 1 1 small eager
	@build/$(PRESET)/bench/bench-ops -k 7 bench/cases/acceptance.txt 1 0.05
bench-full: build bench-peers ## the full grid, for hours; goes on where it was interrupted
	@build/$(PRESET)/bench/bench-ops -p c -o build/bench-full.tsv bench/cases/grid.txt 1
STREAM_ENTRIES = 1024
STREAM_FILE = build/stream-$(STREAM_ENTRIES).safetensors
bench-stream: build ## a matrix of 2 GB from disk under a budget of 256 MiB: forward, training, against bare I/O and SciPy
	@[ -e $(STREAM_FILE) ] || build/$(PRESET)/bench/bench-stream make $(STREAM_FILE) 262144 65536 $(STREAM_ENTRIES)
	@build/$(PRESET)/bench/bench-stream transfer $(STREAM_FILE)
	@rm -rf build/stream-store && build/$(PRESET)/bench/bench-stream step $(STREAM_FILE) build/stream-store && rm -r build/stream-store
	@build/$(PRESET)/bench/bench-stream compute $(STREAM_FILE)
	@python3 bench/stream_scipy.py build/$(PRESET)/bench/bench-stream $(STREAM_FILE)
bench-large: ## the same with 8 GB
	@$(MAKE) --no-print-directory bench-stream STREAM_ENTRIES=4096
bench-peers: ## install the libraries to compare with
	@bench/peers/install.sh
bench-svmlight: build ## reading svmlight text, beside scikit-learn (PYTHON: one that has it)
	@$(or $(PYTHON),python3) bench/peers/svmlight.py build/$(PRESET)/bench/bench-svmlight
wheel: deps ## a wheel of the Python package with the libraries it needs in it, in build/dist
	@scripts/python-wheel.sh
test-python: deps ## the Python package with PyTorch, JAX and Keras, in a fresh virtual environment
	@scripts/test-python.sh
bench-python: ## calls, Keras epochs against keras.layers.Dense, three layers (BACKEND, PART: calls, epochs, accuracy, layers)
	@bindings/python/bench/run.sh "$(or $(BACKEND),torch jax tensorflow)" "$(or $(PART),calls epochs layers)"
gpu-check: ## build the CUDA module for this machine's GPU, test it there, a short benchmark (OUT_DIR, COMMIT)
	@OUT_DIR="$(OUT_DIR)" COMMIT="$(COMMIT)" scripts/gpu-check.sh
gpu-bench: ## the full benchmark on a GPU, beside cuSPARSE, cuBLAS and PyTorch (OUT_DIR, COMMIT)
	@OUT_DIR="$(OUT_DIR)" COMMIT="$(COMMIT)" scripts/gpu-bench.sh
sanitize: deps ## the tests under ASan with leaks, UBSan and TSan
	scripts/sanitize.sh
fuzz: deps ## each file reader for a minute
	scripts/fuzz.sh
format: ## clang-format
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cpp' '*.hpp' '*.cu' '*.cuh')
docs: ## API reference into build/docs
	@command -v doxygen >/dev/null || { echo "The reference is made by Doxygen: apt-get install doxygen" >&2; exit 1; }
	@mkdir -p build && doxygen docs/Doxyfile && echo "build/docs/html/index.html"
install: build ## into PREFIX (default /usr/local)
	cmake --install build/$(PRESET) --prefix $(or $(PREFIX),/usr/local)
.PHONY: bench-topology bench-dst
bench-topology: build ## what an edit of the patterns costs, in training steps
	@build/$(PRESET)/bench/bench-topology
bench-dst: build ## accuracy of dynamic sparse training on Fashion-MNIST, in some ten minutes
	@build/$(PRESET)/bench/bench-dst
.PHONY: bench-nerva
bench-nerva: build ## an epoch of the network that Nerva publishes
	@build/$(PRESET)/bench/bench-nerva
.PHONY: bench-comm
COMM = build/$(PRESET)/bench/bench-comm
bench-comm: build ## what ranks send, and how much a slow link costs a step (as root: network namespaces and tc)
	@OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=self,vader mpirun -n 2 --oversubscribe $(COMM) bytes
	@bench/comm_link.sh $(COMM) 1gbit 1gbit 0.05ms 0.05 1024
	@bench/comm_link.sh $(COMM) 200mbit 200mbit 0.2ms 0.05 1024
	@bench/comm_link.sh $(COMM) d20.1gbit 1gbit 0.05ms 0.2 1024
clean:
	rm -rf build build-*.log
.PHONY: bench-sparse-input
bench-sparse-input: build bench-peers ## a layer of sparse inputs beside PyTorch and TensorFlow
	@build/$(PRESET)/bench/bench-sparse-input sgd
	@build/$(PRESET)/bench/bench-sparse-input adam
