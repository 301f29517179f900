#!/usr/bin/env bash
# Short English and Japanese sentences of the Tanaka corpus (https://github.com/odashi/small_parallel_enja).
#   ./run.sh                     all stages, English into Japanese
#   ./run.sh --pairs ja-en --exp exp/ja-en
#   ./run.sh --help              all options
# Both sides are tokenised, English in lower case, so BLEU is of tokens as they are (no further tokenisation).
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/en-ja config=enja pairs=en-ja
export tokenizer_kind=bpe vocab_size=8000 tests=test last=5 bleu_options="--tokenize none"
export title="Short sentences, translated"
export corpus="small_parallel_enja (https://github.com/odashi/small_parallel_enja), from the Tanaka corpus."
exec ../../../recipes/mt.sh "$@"
