#!/usr/bin/env bash
# The weights that run.sh trained at several latencies: full, 640, 320 and 160 ms; offline, streamed, in two passes.
#   ./stream.sh            after ./run.sh; some minutes
#   ./stream.sh --help     all options
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/run
exec ../../../recipes/stream.sh "$@"
