#!/usr/bin/env bash
# The stages every language model recipe shares. egs/<corpus>/lm/run.sh sets the corpus and calls this.
set -euo pipefail

usage() {
    cat <<EOT
Usage: $0 [options] [KEY=VALUE...]

Language models of a recogniser's pieces, from its transcripts to perplexities, in stages:
  0 text       the sentences of the recogniser's data, and of --text, without ids
  1 train      train the model (goes on where it was stopped)
  2 average    average the best checkpoints
  3 ngram      an n-gram model of the same text
  4 perplexity of both, on the same tokens
  5 bundle     model, tokenizer and results in one folder, for --lm of the recogniser's recipe
A stage already done is skipped; the markers are in <exp>/.done.

Options:
  --stage N            first stage to run (default: $stage)
  --stop-stage N       last stage to run (default: $stop_stage)
  --force              run the chosen stages even if they are done
  --ngpu N             GPUs; 0 is the CPU (default: $ngpu)
  --recogniser DIR     its Kaldi data directories train, dev, ... and its tokenizer (default: $recogniser)
  --text "A B"         more text to train on, a sentence a line (default: ${text:-none})
  --data DIR           the sentences (default: $data)
  --exp DIR            everything trained and measured (default: $exp)
  --config NAME        training config in conf/ (default: $config)
  --order N            words of the longest n-grams (default: $order)
  --tests "A B"        what perplexity is measured on (default: $tests)
  KEY=VALUE            Hydra overrides of s2s train, such as model=lstm_lm or model.positions=none
EOT
}

. "$(dirname "${BASH_SOURCE[0]}")/stages.sh"
config=${config:-train_lm} recogniser=${recogniser:-../asr/data} text=${text:-} order=${order:-4}
tests=${tests:-dev test} title=${title:-Language model} vocab_size=0
parse_options "recogniser text order" "" "$@"
check_numbers order
tokenizer=$recogniser/tokenizer

text() {
    [ -e "$tokenizer" ] || {
        echo "$0: $tokenizer: no such folder; run stages 0 and 1 of the recogniser's recipe, or give --recogniser" >&2
        exit 1
    }
    mkdir -p "$data"
    for part in train dev $tests; do
        [ -e "$recogniser/$part/text" ] || { echo "$0: $recogniser/$part/text: no such file" >&2; exit 1; }
        sed 's/^[^[:space:]]*[[:space:]]*//' "$recogniser/$part/text" > "$data/$part.txt"
    done
    for file in $text; do cat "$file" >> "$data/train.txt"; done
}

train() {
    if $force; then rm -rf "$exp/train"; fi
    s2s train --config-dir conf --config-name "$config" exp_dir="$exp/train" tokenizer="$tokenizer" \
        text.train="[$data/train.txt]" text.valid="[$data/dev.txt]" "${devices[@]}" ${overrides[@]+"${overrides[@]}"}
}

average() { s2s average "$exp/train" --out "$exp/averaged"; }

ngram() {
    s2s lm ngram "$data/train.txt" --tokenizer "$tokenizer" --order "$order" --discount-fallback --out "$exp/ngram.arpa"
}

perplexity() {
    mkdir -p "$exp/perplexity"
    for test in $tests; do
        local out=$exp/perplexity/$test
        s2s lm perplexity "$exp/averaged" "$data/$test.txt" --device "$device" > "$out.txt"
        s2s lm perplexity "$exp/averaged" "$data/$test.txt" --device "$device" --json > "$out.json"
        s2s lm perplexity "$exp/ngram.arpa" "$data/$test.txt" --tokenizer "$tokenizer" > "$out-ngram.txt"
        s2s lm perplexity "$exp/ngram.arpa" "$data/$test.txt" --tokenizer "$tokenizer" --json > "$out-ngram.json"
        echo "$test:"
        sed 's/^/  /' "$out.txt"
        echo "$test, $order-gram:"
        sed 's/^/  /' "$out-ngram.txt"
    done
}

bundle() {
    local results=()
    for test in $tests; do results+=(--results "$test=$exp/perplexity/$test.txt"); done
    s2s bundle "$exp/averaged" --out "$exp/bundle" --title "$title" --training-data "$corpus" "${results[@]}"
}

run_stages text train average ngram perplexity bundle
