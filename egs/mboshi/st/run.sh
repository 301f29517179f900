#!/usr/bin/env bash
# Mboshi speech into French: four hours of sentences of three speakers, with the linguists' transcripts and their French
# (Godard et al. 2018, arXiv:1710.03501). For research; do not pass the recordings on.
#   ./run.sh                           one model that translates (mb-fr) and recognises (mb-mb)
#   ./run.sh --pairs mb-fr --exp exp/direct
#   ./run.sh --init ../asr/exp/run/bundle --exp exp/init            its encoder begins with that of ../asr
#   ./run.sh --cascade                 and a text model of the same sentences, behind the recogniser
#   ./run.sh --help                    all options
# The data are those of ../asr: the official dev set is the test, and what is validated on is taken from the training
# utterances (local/data.py there says how).
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/run config=mboshi pairs="mb-fr mb-mb"
export tokenizer_kind=unigram vocab_size=500
export title="Mboshi into French"
export corpus="Mboshi-French parallel corpus (https://github.com/besacier/mboshi-french-parallel-corpus), research use."
exec ../../../recipes/st.sh "$@"
