#!/usr/bin/env bash
# What each kind of attention and encoder does on digits: every line of recipes/ablations.txt, same budget, three seeds.
#   ./ablate.sh                                        all of it; on two cores that is a day
#   ./ablate.sh --only "softmax relaxed" --seeds 1     two lines, one seed
#   ./ablate.sh --recipe "./run.sh --split unseen" --exp exp/ablate-unseen --out ablation-unseen
#   ./ablate.sh --help                                 all options
set -euo pipefail
cd "$(dirname "$0")"
exec python ../../../recipes/ablate.py "$@"
