#!/usr/bin/env bash
# Kerstin: German sentences of one speaker, 1.6 hours (https://github.com/rhasspy/dataset-voice-kerstin, CC0 1.0).
# One model, trained with dynamic chunks, that hears whole files and live speech.
#   ./run.sh          all stages; about an hour of training on two cores
#   ./stream.sh       the same weights at several latencies, offline, streamed and in two passes
#   ./run.sh --help   all options
set -euo pipefail
cd "$(dirname "$0")"

export data=data exp=exp/run config=kerstin
export tokenizer_kind=unigram vocab_size=150
export title="German sentences, streaming"
export corpus="Kerstin (https://github.com/rhasspy/dataset-voice-kerstin), CC0 1.0."
exec ../../../recipes/asr.sh "$@"
