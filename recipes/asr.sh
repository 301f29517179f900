#!/usr/bin/env bash
# The stages every speech recognition recipe shares. egs/<corpus>/<task>/run.sh sets the corpus and calls this.
set -euo pipefail

usage() {
    cat <<EOF
Usage: $0 [options] [KEY=VALUE...]

Speech recognition from recordings to a word error rate, in stages:
  0 data       local/data.py: recordings and transcripts into Kaldi data directories
  1 tokenizer  learn the tokenizer from the training text
  2 train      train the model (goes on where it was stopped)
  3 average    average the best checkpoints
  4 decode     decode the test sets in every decoding mode
  5 score      word, character and sentence error rates
  6 bundle     model, tokenizer and results in one folder to give away
A stage already done is skipped; the markers are in <exp>/.done.

Options:
  --stage N            first stage to run (default: $stage)
  --stop-stage N       last stage to run (default: $stop_stage)
  --force              run the chosen stages even if they are done
  --nj N               processes that read audio (default: $nj)
  --ngpu N             GPUs; 0 is the CPU (default: $ngpu)
  --data-root DIR      folder with a local copy of the corpus (default: \$S2S_DATA; none downloads it)
  --data DIR           data directories and tokenizer (default: $data)
  --exp DIR            everything trained and decoded (default: $exp)
  --config NAME        training config in conf/ (default: $config)
  --tokenizer-kind K   char, unigram or bpe (default: $tokenizer_kind)
  --vocab-size N       pieces of the tokenizer (default: $vocab_size)
  --tests "A B"        test sets (default: $tests)
  --decodings "A B"    decoding modes, or all (default: $decodings)
  --data-options "..." further options for local/data.py (default: $data_options)
  KEY=VALUE            Hydra overrides: decoding.* go to s2s decode, all others to s2s train
EOF
}

stage=0 stop_stage=6 force=false nj=1 ngpu=0
data_root=${S2S_DATA:-} data=${data:-data} exp=${exp:-exp} config=${config:-train}
tokenizer_kind=${tokenizer_kind:-unigram} vocab_size=${vocab_size:-500} tests=${tests:-test}
decodings=${decodings:-ctc_greedy greedy joint} data_options=${data_options:-}
title=${title:-Speech recognition model} corpus=${corpus:-not stated}
train_overrides=() decode_overrides=() # expanded as ${x[@]+...}: before bash 4.4 an empty one is unset

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --force) force=true; shift ;;
        --stage | --stop-stage | --nj | --ngpu | --data-root | --data | --exp | --config | --tokenizer-kind \
            | --vocab-size | --tests | --decodings | --data-options)
            [ $# -ge 2 ] || { echo "$0: $1 needs a value; see --help" >&2; exit 2; }
            name=${1#--}
            printf -v "${name//-/_}" %s "$2"
            shift 2 ;;
        decoding.*=*) decode_overrides+=("$1"); shift ;;
        *=*) train_overrides+=("$1"); shift ;;
        *) echo "$0: '$1' is neither an option nor KEY=VALUE; see --help" >&2; exit 2 ;;
    esac
done
for name in stage stop_stage nj ngpu vocab_size; do
    [[ ${!name} =~ ^[0-9]+$ ]] || { echo "$0: --${name//_/-} ${!name}: expected a whole number" >&2; exit 2; }
done
command -v s2s > /dev/null || { echo "$0: no command s2s; activate the environment (. .venv/bin/activate)" >&2; exit 1; }

if [ "$decodings" = all ]; then
    decodings="ctc_greedy ctc_prefix rescoring greedy beam joint diverse sampling mbr"
fi

done_dir=$exp/.done
mkdir -p "$done_dir"

# run_stage N NAME FUNCTION: run it unless it is outside the chosen range or done; what follows it is then no longer done.
run_stage() {
    local number=$1 name=$2
    if [ "$number" -lt "$stage" ] || [ "$number" -gt "$stop_stage" ]; then return; fi
    if ! $force && [ -e "$done_dir/$number" ]; then
        echo "stage $number: $name is done already (remove $done_dir/$number or use --force to do it again)"
        return
    fi
    echo "stage $number: $name"
    for ((later = number; later <= 6; later++)); do rm -f "$done_dir/$later"; done
    "$name"
    touch "$done_dir/$number"
}

data() { python local/data.py --data-root "$data_root" --out "$data" $data_options; }

tokenizer() {
    s2s tokenizer train --kaldi --kind "$tokenizer_kind" --vocab-size "$vocab_size" --out "$data/tokenizer" "$data/train/text"
}

train() {
    local devices=("training.accelerator=cpu")
    if [ "$ngpu" -gt 0 ]; then devices=("training.accelerator=gpu" "training.devices=$ngpu"); fi
    if $force; then rm -rf "$exp/train"; fi
    s2s train --config-dir conf --config-name "$config" exp_dir="$exp/train" tokenizer="$data/tokenizer" \
        data.train="[$data/train]" data.valid="[$data/dev]" data.num_workers="$nj" "${devices[@]}" \
        ${train_overrides[@]+"${train_overrides[@]}"}
}

average() { s2s average "$exp/train" --out "$exp/averaged"; }

decode() {
    local device=cpu
    if [ "$ngpu" -gt 0 ]; then device=cuda; fi
    for test in $tests; do
        for mode in $decodings; do
            s2s decode --model "$exp/averaged" --data "$data/$test" --out "$exp/decode/$test/$mode" --device "$device" \
                --num-workers "$nj" "decoding=$mode" ${decode_overrides[@]+"${decode_overrides[@]}"}
        done
    done
}

score() {
    for test in $tests; do
        for mode in $decodings; do
            local out=$exp/decode/$test/$mode
            s2s score wer "$data/$test/text" "$out/text" --cer --strict > "$out/score.txt"
            s2s score wer "$data/$test/text" "$out/text" --alignments > "$out/alignments.txt"
            s2s score wer "$data/$test/text" "$out/text" --cer --json > "$out/score.json"
            echo "$test, $mode:"
            sed 's/^/  /' "$out/score.txt"
        done
        s2s score table "$exp/decode/$test" | tee "$exp/decode/$test/table.md"
    done
}

bundle() {
    local results=()
    for test in $tests; do
        for mode in $decodings; do results+=(--results "$test, $mode=$exp/decode/$test/$mode/score.txt"); done
    done
    s2s bundle "$exp/averaged" --out "$exp/bundle" --title "$title" --training-data "$corpus" "${results[@]}"
}

number=0
for name in data tokenizer train average decode score bundle; do
    run_stage "$number" "$name"
    number=$((number + 1))
done
