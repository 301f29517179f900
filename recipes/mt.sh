#!/usr/bin/env bash
# The stages every text translation recipe shares. egs/<corpus>/mt/run.sh sets the corpus and calls this.
set -euo pipefail

usage() {
    cat <<EOF
Usage: $0 [options] [KEY=VALUE...]

Text translation from parallel text to BLEU and chrF, in stages:
  0 data       local/data.py: text.en, text.de, ... of every part, line for line
  1 tokenizer  learn one vocabulary from the training text of all languages
  2 train      train the model (goes on where it was stopped)
  3 average    average the checkpoints of the last epochs
  4 translate  translate the test sets in every direction
  5 score      BLEU and chrF, or what --metrics names, of the text as it is; with --moses also of tokenised, lower-cased text
  6 bundle     model, tokenizer and results in one folder to give away
A stage already done is skipped; the markers are in <exp>/.done.

Options:
  --stage N            first stage to run (default: $stage)
  --stop-stage N       last stage to run (default: $stop_stage)
  --force              run the chosen stages even if they are done
  --ngpu N             GPUs; 0 is the CPU (default: $ngpu)
  --pairs "A B"        what to translate, source and target (default: $pairs)
  --data-root DIR      folder with a local copy of the corpus (default: \$S2S_DATA; none downloads it)
  --data DIR           parallel text and tokenizers (default: $data)
  --exp DIR            everything trained and translated (default: $exp)
  --config NAME        training config in conf/ (default: $config)
  --tokenizer-kind K   char, unigram or bpe (default: $tokenizer_kind)
  --vocab-size N       pieces of the tokenizer (default: $vocab_size)
  --last N             epochs that are averaged (default: $last)
  --tests "A B"        test sets (default: $tests)
  --metrics "A B"      scores: bleu, chrf, ter, wer (default: $metrics)
  --beam-size N        hypotheses kept in the search (default: $beam_size)
  --moses              also score as older papers do (needs sacremoses: pip install 's2s[moses]')
  --data-options "..." further options for local/data.py (default: $data_options)
  KEY=VALUE            Hydra overrides of s2s train
EOF
}

stage=0 stop_stage=6 force=false ngpu=0 moses=false
data_root=${S2S_DATA:-} data=${data:-data} exp=${exp:-exp} config=${config:-train_translation} pairs=${pairs:-en-de}
tokenizer_kind=${tokenizer_kind:-bpe} vocab_size=${vocab_size:-8000} tests=${tests:-test} beam_size=${beam_size:-5}
last=${last:-10} data_options=${data_options:-} metrics=${metrics:-bleu chrf} bleu_options=${bleu_options:-}
title=${title:-Translation model} corpus=${corpus:-not stated}
overrides=() # expanded as ${x[@]+...}: before bash 4.4 an empty one is unset

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --force) force=true; shift ;;
        --moses) moses=true; shift ;;
        --stage | --stop-stage | --ngpu | --pairs | --data-root | --data | --exp | --config | --tokenizer-kind \
            | --vocab-size | --last | --tests | --metrics | --beam-size | --data-options)
            [ $# -ge 2 ] || { echo "$0: $1 needs a value; see --help" >&2; exit 2; }
            name=${1#--}
            printf -v "${name//-/_}" %s "$2"
            shift 2 ;;
        *=*) overrides+=("$1"); shift ;;
        *) echo "$0: '$1' is neither an option nor KEY=VALUE; see --help" >&2; exit 2 ;;
    esac
done
for name in stage stop_stage ngpu vocab_size last beam_size; do
    [[ ${!name} =~ ^[0-9]+$ ]] || { echo "$0: --${name//_/-} ${!name}: expected a whole number" >&2; exit 2; }
done
for pair in $pairs; do
    [[ $pair =~ ^[^-]+-[^-]+$ ]] || { echo "$0: --pairs $pair: expected source-target, such as en-de" >&2; exit 2; }
done
command -v s2s > /dev/null || { echo "$0: no command s2s; activate the environment (. .venv/bin/activate)" >&2; exit 1; }

recipes=$(dirname "${BASH_SOURCE[0]}")
targets=$(for pair in $pairs; do echo "${pair#*-}"; done | sort -u)
num_targets=$(wc -l <<< "$targets")
tokenizer=$data/tokenizer-${pairs// /_}-$tokenizer_kind-$vocab_size # each choice of languages has its own
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
    local languages options=() code
    languages=$(for pair in $pairs; do printf '%s\n' "${pair%-*}" "${pair#*-}"; done | sort -u)
    if [ "$num_targets" -gt 1 ]; then for code in $targets; do options+=(--target-language "$code"); done; fi
    s2s tokenizer train --translation --kind "$tokenizer_kind" --vocab-size "$vocab_size" --out "$tokenizer" \
        ${options[@]+"${options[@]}"} $(for code in $languages; do echo "$data/train/text.$code"; done)
}

train() {
    local devices=("training.accelerator=cpu")
    if [ "$ngpu" -gt 0 ]; then devices=("training.accelerator=gpu" "training.devices=$ngpu"); fi
    if $force; then rm -rf "$exp/train"; fi
    s2s train --config-dir conf --config-name "$config" exp_dir="$exp/train" tokenizer="$tokenizer" \
        text.train="[$data/train]" text.valid="[$data/dev]" text.pairs="[${pairs// /,}]" "${devices[@]}" \
        ${overrides[@]+"${overrides[@]}"}
}

average() { s2s average "$exp/train" --last "$last" --out "$exp/averaged"; }

translate() {
    local device=cpu
    if [ "$ngpu" -gt 0 ]; then device=cuda; fi
    for test in $tests; do
        for pair in $pairs; do
            local out=$exp/translate/$test/$pair options=()
            if [ "$num_targets" -gt 1 ]; then options=(--target-language "${pair#*-}"); fi
            mkdir -p "$out"
            s2s translate --model "$exp/averaged" --beam-size "$beam_size" --device "$device" ${options[@]+"${options[@]}"} \
                --output "$out/text" "$data/$test/text.${pair%-*}"
        done
    done
}

score() {
    for test in $tests; do
        for pair in $pairs; do
            local out=$exp/translate/$test/$pair reference=$data/$test/text.${pair#*-}
            echo "$test, $pair:"
            : > "$out/score.txt"
            for metric in $metrics; do
                local options=() files=("$reference" "$out/text")
                if [ "$metric" = bleu ]; then read -ra options <<< "$bleu_options"; fi
                if [ "$metric" = wer ]; then # whose lines begin with an id
                    awk '{ print "line" NR, $0 }' "$reference" > "$out/reference"
                    awk '{ print "line" NR, $0 }' "$out/text" > "$out/hypothesis"
                    files=("$out/reference" "$out/hypothesis")
                fi
                s2s score "$metric" "${files[@]}" ${options[@]+"${options[@]}"} | tee -a "$out/score.txt"
                s2s score "$metric" "${files[@]}" ${options[@]+"${options[@]}"} --json > "$out/$metric.json"
            done
            if $moses; then
                python "$recipes/moses.py" --language "${pair#*-}" "$reference" > "$out/reference.tok"
                python "$recipes/moses.py" --language "${pair#*-}" "$out/text" > "$out/text.tok"
                echo "tokenised and lower-cased:" | tee -a "$out/score.txt"
                s2s score bleu "$out/reference.tok" "$out/text.tok" --tokenize none | tee -a "$out/score.txt"
            fi
        done
    done
}

bundle() {
    local results=()
    for test in $tests; do
        for pair in $pairs; do results+=(--results "$test, $pair=$exp/translate/$test/$pair/score.txt"); done
    done
    s2s bundle "$exp/averaged" --out "$exp/bundle" --title "$title" --training-data "$corpus" "${results[@]}"
}

number=0
for name in data tokenizer train average translate score bundle; do
    run_stage "$number" "$name"
    number=$((number + 1))
done
