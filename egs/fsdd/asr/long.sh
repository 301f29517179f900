#!/usr/bin/env bash
# The test strings joined into ones 2 to 10 times as long: who holds, and what it costs.
#   ./long.sh                                          the model of ./run.sh, jointly and by CTC alone
#   ./long.sh --systems "NAME=BUNDLE:DECODING ..."     others side by side
#   ./long.sh --help                                   all options
set -euo pipefail
cd "$(dirname "$0")"
exec python ../../../recipes/long.py "$@"
