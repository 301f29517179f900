#!/usr/bin/env bash
# The digits recipe cut down to a few minutes: fewer strings, a smaller model, then a recording transcribed with it.
set -euo pipefail
cd "$(dirname "$0")"

data=data/demo exp=exp/demo config=demo tokenizer_kind=unigram vocab_size=30 data_options="--passes 2"
title="English digit strings, demo"
corpus="Free Spoken Digit Dataset (https://github.com/Jakobovski/free-spoken-digit-dataset), CC BY-SA 4.0."
export data exp config tokenizer_kind vocab_size data_options title corpus
../../../recipes/asr.sh --decodings "ctc_greedy joint" decoding.ctc_weight=0.5 "$@"
[ -d "$exp/bundle" ] || exit 0 # not all stages were asked for

echo
for mode in ctc_greedy joint; do
    echo "word error rate, $mode: $(head -n 1 "$exp/decode/test/$mode/score.txt")"
done
recording=$(ls "$data"/test/audio/*.flac | tail -n 1)
name=$(basename "$recording" .flac)
echo "\$ s2s transcribe --model egs/fsdd/asr/$exp/bundle egs/fsdd/asr/$recording"
s2s transcribe --model "$exp/bundle" "$recording"
echo "(the reference: $(grep "^$name " "$data/test/text" | cut -d' ' -f2-))"
