#!/usr/bin/env bash
# The CMU Pronouncing Dictionary: letters to phonemes (https://github.com/cmusphinx/cmudict, BSD).
#   ./run.sh          all stages; phoneme and word error rates
#   ./run.sh --help   all options
# `%WER` of the scores is of phonemes (PER), sentence errors are words with an error.
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/run config=g2p pairs=letters-phonemes metrics=wer
export tokenizer_kind=word vocab_size=100 tests=test last=4
export title="Letters to phonemes"
export corpus="CMUdict (https://github.com/cmusphinx/cmudict), BSD 2-Clause."
exec ../../../recipes/mt.sh "$@"
