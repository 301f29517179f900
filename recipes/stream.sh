#!/usr/bin/env bash
# One trained model at several latencies: offline, offline as a stream would hear it, and streamed, in one and two passes.
# egs/<corpus>/<task>/stream.sh calls this in its folder.
set -euo pipefail

usage() {
    cat <<EOF
Usage: $0 [options] [KEY=VALUE...]

Decodes the test sets of a recipe whose model was trained with dynamic chunks:
  <exp>/stream/<test>/full/<mode>             whole utterances
  <exp>/stream/<test>/<seconds>/<mode>        whole utterances, under the mask of a stream
  <exp>/stream/<test>/<seconds>/<mode>-live   sessions fed 0.1 s at a time, with end points; events.jsonl has the latency
Then prints a table of error rates and latencies. What is there already is skipped.

Options:
  --data DIR           data directories (default: $data)
  --exp DIR            trained model (default: $exp)
  --tests "A B"        test sets (default: $tests)
  --chunks "A B"       seconds heard at once (default: $chunks)
  --left SECONDS       seconds before a chunk that it sees (default: $left)
  --frame SECONDS      of an encoder frame (default: $frame)
  --decodings "A B"    decoding modes (default: $decodings)
  KEY=VALUE            Hydra overrides decoding.*
EOF
}

data=${data:-data} exp=${exp:-exp/run} tests=${tests:-test} chunks="0.64 0.32 0.16" left=5.12 frame=0.04
decodings="ctc_prefix rescoring" overrides=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --data | --exp | --tests | --chunks | --left | --frame | --decodings)
            [ $# -ge 2 ] || { echo "$0: $1 needs a value; see --help" >&2; exit 2; }
            printf -v "${1#--}" %s "$2"
            shift 2 ;;
        decoding.*=*) overrides+=("$1"); shift ;;
        *) echo "$0: '$1' is neither an option nor decoding.KEY=VALUE; see --help" >&2; exit 2 ;;
    esac
done
command -v s2s > /dev/null || { echo "$0: no command s2s; activate the environment (. .venv/bin/activate)" >&2; exit 1; }
[ -d "$exp/averaged" ] || { echo "$0: $exp/averaged: no such folder; run ./run.sh first" >&2; exit 1; }

# frames SECONDS: how many encoder frames that is, at least one.
frames() { awk -v s="$1" -v f="$frame" 'BEGIN { n = int(s / f + 0.5); print n < 1 ? 1 : n }'; }

score() { # TEST DIR
    s2s score wer "$data/$1/text" "$2/text" --cer --strict > "$2/score.txt"
    s2s score wer "$data/$1/text" "$2/text" --cer --json > "$2/score.json"
}

decode() { # TEST DIR MODE [OVERRIDES]
    local test=$1 out=$2 mode=$3
    shift 3
    [ -e "$out/score.json" ] && return
    s2s decode --model "$exp/averaged" --data "$data/$test" --out "$out" "decoding=$mode" "$@" \
        ${overrides[@]+"${overrides[@]}"}
    score "$test" "$out"
}

live() { # TEST DIR MODE SECONDS
    [ -e "$2/score.json" ] && return
    local set=() override
    for override in ${overrides[@]+"${overrides[@]}"}; do set+=(--set "$override"); done
    mkdir -p "$2"
    s2s stream --model "$exp/averaged" --decoding "$3" --chunk "$4" --left "$left" ${set[@]+"${set[@]}"} --simulate \
        --quiet --events "$2/events.jsonl" "$data/$1/audio" > /dev/null
    python "$(dirname "${BASH_SOURCE[0]}")/finals.py" "$2/events.jsonl" > "$2/text"
    s2s score latency "$2/events.jsonl" --json > "$2/latency.json"
    score "$1" "$2"
}

for test in $tests; do
    out=$exp/stream/$test
    for mode in $decodings; do
        decode "$test" "$out/full/$mode" "$mode"
        for chunk in $chunks; do
            size=$(frames "$chunk")
            chunks_left=$(awk -v n="$(frames "$left")" -v s="$size" 'BEGIN { print int(n / s + 0.5) }')
            decode "$test" "$out/$chunk/$mode" "$mode" "decoding.chunk_size=$size" "decoding.left_chunks=$chunks_left"
            live "$test" "$out/$chunk/$mode-live" "$mode" "$chunk"
        done
    done
    python "$(dirname "${BASH_SOURCE[0]}")/finals.py" --table "$out" | tee "$out/table.md"
done
