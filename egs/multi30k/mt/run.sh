#!/usr/bin/env bash
# Multi30k: captions in English, German, French and Czech (https://github.com/multi30k/dataset). For research; do not
# pass the text on.
#   ./run.sh                     all stages, English into German
#   ./run.sh --pairs fr-en --exp exp/fr-en
#   ./run.sh --pairs all --config multilingual --last 4 --exp exp/all       one model for all twelve directions
#   ./run.sh --pairs "en-de de-en en-fr fr-en en-cs cs-en" --translate-pairs all --config multilingual --last 4 \
#       --exp exp/zero-shot                                                 six of them learnt, the others zero-shot
#   ./run.sh --pairs en+de-fr --config multi_source --exp exp/en+de-fr      two languages read at once, into a third
#   ./run.sh --pretrain 10 --exp exp/pretrained                             after ten epochs of denoising
#   ./run.sh --help              all options
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/en-de config=multi30k
export tokenizer_kind=bpe vocab_size=8000 tests=test_2016_flickr
export title="Captions, translated" every_pair="en-de en-fr en-cs de-en de-fr de-cs fr-en fr-de fr-cs cs-en cs-de cs-fr"
export corpus="Multi30k (https://github.com/multi30k/dataset), research use."
exec ../../../recipes/mt.sh "$@"
