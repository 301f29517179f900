#!/usr/bin/env bash
# Mboshi (Bantu C25, Congo-Brazzaville): four hours of read and spoken sentences of three speakers, with the linguists'
# transcripts (Godard et al. 2018, arXiv:1710.03501). For research; do not pass the recordings on.
#   ./run.sh          all stages
#   ./run.sh --help   all options
# Stage 0 takes a copy that S2S_DATA or --data-root names, else downloads the official archive (more
# than a gigabyte) into downloads/. The official dev set is the test; local/data.py says how the part to validate on is
# taken from the training utterances.
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/run config=mboshi
export tokenizer_kind=char
export title="Mboshi"
export corpus="Mboshi-French parallel corpus (https://github.com/besacier/mboshi-french-parallel-corpus), research use."
exec ../../../recipes/asr.sh "$@"
