#!/usr/bin/env bash
# Language models of German sentences, in the pieces of ../asr, which has to have run its stages 0 and 1.
#   ./run.sh                                                    a Transformer, and a 4-gram of the same text
#   ./run.sh --text ../../multi30k/mt/data/train/text.de        captions too
#   ./run.sh --help                                             all options
# Then: cd ../asr && ./run.sh --stage 4 --force --lm ../lm/exp/run/bundle --ngram ../lm/exp/run/ngram.arpa
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/run config=kerstin_lm tests=test
export title="German sentences, language model"
export corpus="Transcripts of Kerstin (https://github.com/rhasspy/dataset-voice-kerstin), CC0 1.0."
exec ../../../recipes/lm.sh "$@"
