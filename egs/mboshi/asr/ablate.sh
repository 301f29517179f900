#!/usr/bin/env bash
# What each kind of attention and encoder does on Mboshi: every line of recipes/ablations.txt, same budget, three seeds.
#   ./ablate.sh                                        all of it; on two cores that is days
#   ./ablate.sh --only "softmax relaxed" --seeds 1     two lines, one seed
#   ./ablate.sh training.max_epochs=5 --exp exp/short  a smaller budget, in a folder of its own
#   ./ablate.sh --help                                 all options
set -euo pipefail
cd "$(dirname "$0")"
exec python ../../../recipes/ablate.py "$@"
