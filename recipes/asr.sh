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
  --tokenizer-kind K   char, unigram, bpe or lexicon (default: $tokenizer_kind)
  --lexicon FILE       words and their phonemes, the pieces of --tokenizer-kind lexicon
  --vocab-size N       pieces of the tokenizer (default: $vocab_size)
  --tests "A B"        test sets (default: $tests)
  --decodings "A B"    decoding modes, or all (default: $decodings)
  --lm DIR             language model of recipes/lm.sh: adds the decodings joint+lm (in the search) and joint+lm-nbest
                       (of what the search found)
  --lm-weight W        of it (default: $lm_weight)
  --ngram FILE         n-gram file: adds joint+ngram and joint+ngram-nbest
  --ngram-weight W     of it (default: $ngram_weight)
  --internal-lm-weight W  of the decoder's own language model, subtracted beside --lm: adds joint+ilm-zero,
                       joint+ilm-utterance and joint+ilm-training, by what the decoder hears in place of the audio
  --data-options "..." further options for local/data.py (default: $data_options)
  KEY=VALUE            Hydra overrides: decoding.* go to s2s decode, all others to s2s train
EOF
}

. "$(dirname "${BASH_SOURCE[0]}")/stages.sh"
config=${config:-train} tokenizer_kind=${tokenizer_kind:-unigram} vocab_size=${vocab_size:-500} tests=${tests:-test}
decodings=${decodings:-ctc_greedy greedy joint} title=${title:-Speech recognition model}
lm=${lm:-} lm_weight=${lm_weight:-0.3} ngram=${ngram:-} ngram_weight=${ngram_weight:-0.3} internal_lm_weight=
lexicon=${lexicon:-}
parse_options "decodings lexicon lm lm-weight ngram ngram-weight internal-lm-weight" "" "$@"
split_overrides
if [ "$decodings" = all ]; then
    decodings="ctc_greedy ctc_prefix rescoring greedy beam joint diverse sampling mbr"
fi
if [ -n "$lm" ]; then decodings+=" joint+lm joint+lm-nbest"; fi
if [ -n "$ngram" ]; then decodings+=" joint+ngram joint+ngram-nbest"; fi
if [ -n "$internal_lm_weight" ]; then
    [ -n "$lm" ] || { echo "$0: --internal-lm-weight: makes room for a language model; give --lm too" >&2; exit 2; }
    decodings+=" joint+ilm-zero joint+ilm-utterance joint+ilm-training"
fi

tokenizer() {
    local options=()
    if [ "$tokenizer_kind" = lexicon ]; then options=(--lexicon "$lexicon"); fi
    s2s tokenizer train --kaldi --kind "$tokenizer_kind" --vocab-size "$vocab_size" --out "$data/tokenizer" \
        ${options[@]+"${options[@]}"} "$data/train/text"
}

train() {
    if $force; then rm -rf "$exp/train"; fi
    s2s train --config-dir conf --config-name "$config" exp_dir="$exp/train" tokenizer="$data/tokenizer" \
        data.train="[$data/train]" data.valid="[$data/dev]" data.num_workers="$nj" "${devices[@]}" \
        ${train_overrides[@]+"${train_overrides[@]}"}
}

average() { s2s average "$exp/train" --out "$exp/averaged"; }

# describe DECODING: into `described` its mode and what is added to it, as overrides.
describe() {
    described=("decoding=${1%%+*}")
    case $1 in
        *+lm* | *+ilm*) described+=("decoding.lm=$lm" "decoding.lm_weight=$lm_weight") ;;
        *+ngram*) described+=("decoding.ngram=$ngram" "decoding.ngram_weight=$ngram_weight") ;;
    esac
    case $1 in
        *-nbest) described+=(decoding.lm_rescoring=true) ;;
        *-utterance) described+=(decoding.internal_lm=utterance) ;;
        *-training) described+=("decoding.internal_lm=$exp/mean_states.safetensors") ;;
    esac
    case $1 in *+ilm*) described+=("decoding.internal_lm_weight=$internal_lm_weight") ;; esac
}

decode() {
    if [ -n "$internal_lm_weight" ]; then
        s2s lm mean-states --model "$exp/averaged" --data "$data/train" --out "$exp/mean_states.safetensors" \
            --device "$device" --num-workers "$nj"
    fi
    for test in $tests; do
        for mode in $decodings; do
            describe "$mode"
            s2s decode --model "$exp/averaged" --data "$data/$test" --out "$exp/decode/$test/$mode" --device "$device" \
                --num-workers "$nj" "${described[@]}" ${decode_overrides[@]+"${decode_overrides[@]}"}
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

run_stages data tokenizer train average decode score bundle
