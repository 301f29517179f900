#!/usr/bin/env bash
# English digits (Free Spoken Digit Dataset, CC BY-SA 4.0): strings of one to six digits.
#   ./run.sh                  all stages, the official split; at most a quarter of an hour of training on two cores
#   ./run.sh --split unseen   two of the six speakers are heard in the test only
#   ./run.sh --help           all options
set -euo pipefail
cd "$(dirname "$0")"

split=official arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --split) split=${2:-}; shift $(($# > 1 ? 2 : 1)) ;;
        *) arguments+=("$1"); shift ;;
    esac
done
[[ $split =~ ^(official|unseen)$ ]] || { echo "$0: --split '$split': expected official or unseen" >&2; exit 2; }

export data=data/$split exp=exp/$split config=fsdd
export tokenizer_kind=unigram vocab_size=30 data_options="--split $split"
export title="English digit strings, $split split"
export corpus="Free Spoken Digit Dataset (https://github.com/Jakobovski/free-spoken-digit-dataset), CC BY-SA 4.0."
exec ../../../recipes/asr.sh ${arguments[@]+"${arguments[@]}"}
