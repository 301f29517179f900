#!/usr/bin/env bash
# Language models of the Mboshi transcripts, in the pieces of ../asr, which has to have run its stages 0 and 1.
#   ./run.sh                                                    a Transformer, and a 4-gram of the same text
#   ./run.sh --exp exp/nopos model.positions=none               without positions
#   ./run.sh --exp exp/lstm model=lstm_lm model.model_dim=256   an LSTM
#   ./run.sh --help                                             all options
# Then: cd ../asr && ./run.sh --stage 4 --force --lm ../lm/exp/run/bundle --ngram ../lm/exp/run/ngram.arpa
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/run config=mboshi_lm tests=test
export title="Mboshi, language model"
export corpus="Transcripts of the Mboshi-French parallel corpus (https://github.com/besacier/mboshi-french-parallel-corpus), research use."
exec ../../../recipes/lm.sh "$@"
