#!/usr/bin/env bash
# Measure the extraction on a GPU, from a checkout, in under 8 minutes: JAX or PyTorch, no TensorFlow, no network.
#
#   bash benchmarks/gpu.sh                 # writes artifacts/bench-gpu-<backend>.json and artifacts/bench-gpu.md
#   QUICK=1 bash benchmarks/gpu.sh         # a look in a minute or two, on any machine
#   PYTHON=…/python BACKENDS="jax" BATCH=512 OUT=folder bash benchmarks/gpu.sh
#
# Python needs keras, h5py, numpy, pandas, scipy, opencv-python-headless, pillow, pydantic, pyarrow, psutil, joblib, and jax or torch.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} BACKENDS=${BACKENDS:-"jax torch"} BATCH=${BATCH:-256} OUT=${OUT:-artifacts} LIMIT_S=${LIMIT_S:-220}
OPTIONS=(--only pipeline --batch "$BATCH")
[ -z "${QUICK:-}" ] || OPTIONS=(--only pipeline --quick --size 64 --batch 8)
mkdir -p "$OUT"
table=$OUT/bench-gpu.md
{ nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo "no NVIDIA GPU here"; } | tee "$table"

measured=0
for backend in $BACKENDS; do
    if ! "$PYTHON" -c "import sys; from importlib.util import find_spec; sys.exit(not find_spec('$backend'))"; then
        echo "$backend: not installed" | tee -a "$table"
        continue
    fi
    export KERAS_BACKEND=$backend
    if nvidia-smi >/dev/null 2>&1 && ! "$PYTHON" -c "import sys; from extract.networks.runtimes.selection import find_gpu; sys.exit(not find_gpu())"; then
        echo "$backend: installed, but it does not see the GPU" | tee -a "$table"
        continue
    fi
    json=$OUT/bench-gpu-$backend.json
    rm -f "$json" "${json%.json}.md"
    # Rows are written as they are measured: what the time limit cuts off leaves the others whole.
    timeout "$LIMIT_S" "$PYTHON" -m benchmarks.extract "${OPTIONS[@]}" --out "$json" || echo "$backend: ended early, code $?" | tee -a "$table"
    [ ! -f "${json%.json}.md" ] || { printf '\n%s\n\n' "$backend"; cat "${json%.json}.md"; } >> "$table"
    measured=1
done
[ "$measured" = 1 ] || { echo "neither JAX nor PyTorch could be measured: install one of them for this Python ($PYTHON)" >&2; exit 1; }
echo "table: $table"
