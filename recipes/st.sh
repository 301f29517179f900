#!/usr/bin/env bash
# The stages every speech translation recipe shares. egs/<corpus>/st/run.sh sets the corpus and calls this.
set -euo pipefail

usage() {
    cat <<EOT
Usage: $0 [options] [KEY=VALUE...]

Speech in one language to text in another or the same, by one model, in stages:
  0 data       local/data.py: recordings, transcripts and translations into Kaldi data directories
  1 tokenizer  learn one vocabulary from the training text of all languages
  2 train      train the model (goes on where it was stopped)
  3 average    average the best checkpoints
  4 decode     decode the test sets in every direction
  5 score      BLEU and chrF of translations, word error rates of recognition (en-en), a table of both
  6 cascade    with --cascade: a text model of the same data translates what was recognised; into the same table
  7 bundle     model, tokenizer and results in one folder to give away
A stage already done is skipped; the markers are in <exp>/.done.

Options:
  --stage N            first stage to run (default: $stage)
  --stop-stage N       last stage to run (default: $stop_stage)
  --force              run the chosen stages even if they are done
  --nj N               processes that read audio (default: $nj)
  --ngpu N             GPUs; 0 is the CPU (default: $ngpu)
  --pairs "A B"        what to learn, spoken and written language; en-en is recognition; or all (default: $pairs)
  --decode-pairs "A B" what to decode, also what was not learnt: zero-shot (default: what is learnt)
  --init DIR           bundle of a recogniser whose encoder the training begins with
  --cascade            also recognise, then translate the text
  --recogniser DIR     bundle that recognises in the cascade (default: this model, which has to have learnt en-en)
  --data-root DIR      folder with a local copy of the corpus (default: \$S2S_DATA; none downloads it)
  --data DIR           data directories and tokenizers (default: $data)
  --exp DIR            everything trained and decoded (default: $exp)
  --config NAME        training config in conf/ (default: $config)
  --mt-config NAME     training config of the text model of a cascade (default: $mt_config)
  --tokenizer-kind K   char, unigram or bpe (default: $tokenizer_kind)
  --vocab-size N       pieces of the tokenizer (default: $vocab_size)
  --tests "A B"        test sets; DATA/TEST-en, where there is one, has what is spoken in en (default: $tests)
  --metrics "A B"      scores of translations: bleu, chrf, ter (default: $metrics)
  --data-options "..." further options for local/data.py (default: $data_options)
  KEY=VALUE            Hydra overrides: decoding.* go to s2s decode, all others to s2s train
EOT
}

recipes=$(dirname "${BASH_SOURCE[0]}")
. "$recipes/stages.sh"
stop_stage=7 pairs=${pairs:-en-de} decode_pairs=${decode_pairs:-} init= cascade=false recogniser=
config=${config:-train_speech_translation} mt_config=${mt_config:-mt} tokenizer_kind=${tokenizer_kind:-unigram}
vocab_size=${vocab_size:-1000} tests=${tests:-test} metrics=${metrics:-bleu chrf} title=${title:-Speech translation model}
parse_options "pairs decode-pairs init recogniser mt-config metrics" cascade "$@"
split_overrides
choose_pairs --decode-pairs decode_pairs
tokenizer=$data/tokenizer-$languages_name-$tokenizer_kind-$vocab_size

# text_of DIR LANGUAGE SOURCE: the file of a data directory that has what is said in SOURCE, in LANGUAGE.
text_of() { if [ "$2" = "$3" ]; then echo "$1/text"; else echo "$1/text.$2"; fi; }

# test_of TEST SOURCE: the data directory of what is spoken in SOURCE.
test_of() { if [ -d "$data/$1-$2" ]; then echo "$data/$1-$2"; else echo "$data/$1"; fi; }

tokenizer() {
    local options=() files=("$data/train/text") code
    if $prompted; then for code in $languages; do options+=(--language "$code"); done; fi
    for code in $(targets_of $pairs $decode_pairs); do
        if ! sources_of $pairs | grep -qx -- "$code"; then files+=("$data/train/text.$code"); fi
    done
    s2s tokenizer train --kaldi --kind "$tokenizer_kind" --vocab-size "$vocab_size" --out "$tokenizer" \
        ${options[@]+"${options[@]}"} "${files[@]}"
}

train() {
    local begun=()
    if [ -n "$init" ]; then begun=("training.init=$init" "training.init_only=[encoder,normalise]"); fi
    if $force; then rm -rf "$exp/train"; fi
    s2s train --config-dir conf --config-name "$config" exp_dir="$exp/train" tokenizer="$tokenizer" \
        data.train="[$data/train]" data.valid="[$data/dev]" data.pairs="[${pairs// /,}]" data.num_workers="$nj" \
        "${devices[@]}" ${begun[@]+"${begun[@]}"} ${train_overrides[@]+"${train_overrides[@]}"}
}

average() { s2s average "$exp/train" --out "$exp/averaged"; }

decode() {
    for test in $tests; do
        for pair in $decode_pairs; do
            local options=()
            if $prompted; then options=(--language "${pair%-*}" --target-language "${pair#*-}"); fi
            s2s decode --model "$exp/averaged" --data "$(test_of "$test" "${pair%-*}")" --out "$exp/decode/$test/$pair" \
                --device "$device" --num-workers "$nj" ${options[@]+"${options[@]}"} \
                ${decode_overrides[@]+"${decode_overrides[@]}"}
        done
    done
}

# score_direction TEST PAIR DIR: the text in a folder against the references.
score_direction() {
    local source=${2%-*} target=${2#*-} out=$3 reference
    reference=$(text_of "$(test_of "$1" "$source")" "$target" "$source")
    : > "$out/score.txt"
    if [ "$source" = "$target" ]; then
        s2s score wer "$reference" "$out/text" --cer > "$out/score.txt"
        s2s score wer "$reference" "$out/text" --cer --json > "$out/wer.json"
        return
    fi
    for metric in $metrics; do
        s2s score "$metric" --kaldi "$reference" "$out/text" >> "$out/score.txt"
        s2s score "$metric" --kaldi "$reference" "$out/text" --json > "$out/$metric.json"
    done
}

# print_table TEST: of all that has been scored.
print_table() { python "$recipes/table.py" "$exp/decode/$1" --learnt $pairs | tee "$exp/decode/$1/table.md"; }

score() {
    for test in $tests; do
        for pair in $decode_pairs; do score_direction "$test" "$pair" "$exp/decode/$test/$pair"; done
        print_table "$test"
    done
}

cascade() {
    if ! $cascade; then echo "no --cascade"; return; fi
    local text_pairs="" pair source
    for pair in $decode_pairs; do if [ "${pair%-*}" != "${pair#*-}" ]; then text_pairs+="${text_pairs:+ }$pair"; fi; done
    for source in $(sources_of $text_pairs); do
        if [ -z "$recogniser" ] && ! [[ " $decode_pairs " == *" $source-$source "* ]]; then
            echo "$0: --cascade: nothing has recognised $source; learn $source-$source too (--pairs), or give --recogniser" >&2
            exit 1
        fi
    done
    for part in train dev; do python "$recipes/parallel.py" "$data/$part" --out "$data/parallel/$part" $pairs $text_pairs; done
    "$recipes/mt.sh" --stage 1 --stop-stage 3 --data "$data/parallel" --exp "$exp/cascade" --config "$mt_config" \
        --pairs "$text_pairs" --ngpu "$ngpu" --tokenizer-kind "$tokenizer_kind" --vocab-size "$vocab_size" --last 5
    for test in $tests; do
        for source in $(sources_of $text_pairs); do
            if [ -z "$recogniser" ]; then continue; fi
            s2s decode --model "$recogniser" --data "$(test_of "$test" "$source")" --device "$device" \
                --out "$exp/decode/$test/recognised/$source-$source" --num-workers "$nj"
            score_direction "$test" "$source-$source" "$exp/decode/$test/recognised/$source-$source"
        done
        for pair in $text_pairs; do
            local out=$exp/decode/$test/cascade/$pair options=() heard
            heard=$exp/decode/$test/${recogniser:+recognised/}${pair%-*}-${pair%-*}/text
            if [ "$(targets_of $text_pairs | wc -l)" -gt 1 ]; then
                options=(--source-language "${pair%-*}" --target-language "${pair#*-}")
            fi
            mkdir -p "$out"
            sed 's/^[^ ]* *//' "$heard" | s2s translate --model "$exp/cascade/averaged" --device "$device" \
                ${options[@]+"${options[@]}"} | paste -d ' ' <(cut -d ' ' -f 1 "$heard") - > "$out/text"
            score_direction "$test" "$pair" "$out"
        done
        print_table "$test"
    done
}

bundle() {
    local results=()
    for test in $tests; do
        for pair in $decode_pairs; do results+=(--results "$test, $pair=$exp/decode/$test/$pair/score.txt"); done
    done
    s2s bundle "$exp/averaged" --out "$exp/bundle" --title "$title" --training-data "$corpus" "${results[@]}"
}

run_stages data tokenizer train average decode score cascade bundle
