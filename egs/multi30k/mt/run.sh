#!/usr/bin/env bash
# Multi30k: captions in English, German, French and Czech (https://github.com/multi30k/dataset). For research; do not
# pass the text on.
#   ./run.sh                     all stages, English into German
#   ./run.sh --pairs fr-en --exp exp/fr-en
#   ./run.sh --pairs "en-de en-fr en-cs de-en fr-en cs-en" --exp exp/many     one model for all of them
#   ./run.sh --help              all options
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/en-de config=multi30k
export tokenizer_kind=bpe vocab_size=8000 tests=test_2016_flickr
export title="Captions, translated"
export corpus="Multi30k (https://github.com/multi30k/dataset), research use."
exec ../../../recipes/mt.sh "$@"
