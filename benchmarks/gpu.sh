#!/bin/bash
# What Potstill does on a GPU, in under 8 minutes; it ends in a table for docs/LOG.md. Without a GPU it says so and ends well.
#
#   benchmarks/gpu.sh                       on the first GPU (FSDP2 on two, where there are two)
#   benchmarks/gpu.sh --device cpu --tiny   every section at a size that proves nothing, so that the script itself is tested
#   benchmarks/gpu.sh --only sampling,full
#
# PYTHON=… names another interpreter than the one in .venv.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3) || { echo "skipped: there is no python"; exit 0; }
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" benchmarks/gpu.py "$@"
