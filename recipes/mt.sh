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
  5 score      BLEU and chrF, or what --metrics names, of the text as it is; with --moses also of tokenised, lower-cased text;
               a table of all directions
  6 bundle     model, tokenizer and results in one folder to give away
A stage already done is skipped; the markers are in <exp>/.done.

Options:
  --stage N            first stage to run (default: $stage)
  --stop-stage N       last stage to run (default: $stop_stage)
  --force              run the chosen stages even if they are done
  --ngpu N             GPUs; 0 is the CPU (default: $ngpu)
  --pairs "A B"        what to learn, source and target, or all (default: $pairs); en+de-fr reads two languages at
                       once and needs a config of model multi_source_translation
  --translate-pairs "A B"  what to translate, also what was not learnt: zero-shot (default: what is learnt)
  --data-root DIR      folder with a local copy of the corpus (default: \$S2S_DATA; none downloads it)
  --data DIR           parallel text and tokenizers (default: $data)
  --exp DIR            everything trained and translated (default: $exp)
  --config NAME        training config in conf/ (default: $config)
  --tokenizer-kind K   char, unigram or bpe (default: $tokenizer_kind)
  --vocab-size N       pieces of the tokenizer (default: $vocab_size)
  --pretrain N         first learn to undo noise in the training text of every language, N epochs: a stage pretrain
                       before train, so that the numbers of the later ones are one higher (default: $pretrain)
  --last N             epochs that are averaged (default: $last)
  --tests "A B"        test sets (default: $tests)
  --metrics "A B"      scores: bleu, chrf, ter, wer (default: $metrics)
  --beam-size N        hypotheses kept in the search (default: $beam_size)
  --moses              also score as older papers do (needs sacremoses: pip install 's2s[moses]')
  --data-options "..." further options for local/data.py (default: $data_options)
  KEY=VALUE            Hydra overrides of s2s train
EOF
}

. "$(dirname "${BASH_SOURCE[0]}")/stages.sh"
config=${config:-train_translation} pairs=${pairs:-en-de} translate_pairs=${translate_pairs:-} moses=false
tokenizer_kind=${tokenizer_kind:-bpe} vocab_size=${vocab_size:-8000} tests=${tests:-test} beam_size=${beam_size:-5}
last=${last:-10} metrics=${metrics:-bleu chrf} bleu_options=${bleu_options:-} title=${title:-Translation model}
pretrain=0 stop_stage=7
parse_options "pairs translate-pairs pretrain last metrics beam-size" moses "$@"
check_numbers pretrain last beam_size
choose_pairs --translate-pairs translate_pairs

recipes=$(dirname "${BASH_SOURCE[0]}")
tokenizer=$data/tokenizer-$languages_name-$tokenizer_kind-$vocab_size # each choice of languages has its own
stages="data tokenizer train average translate score bundle" begin=()
if [ "$pretrain" -gt 0 ]; then
    stages=${stages/train/pretrain train} begin=("training.init=$exp/pretrained")
    if $prompted; then tokenizer=$tokenizer-pretrain; fi # with one more word for prompts
fi

tokenizer() {
    local options=() code
    if $prompted; then for code in $languages; do options+=(--language "$code"); done; options+=(--task translate); fi
    if $prompted && [ "$pretrain" -gt 0 ]; then options+=(--task transcribe); fi
    s2s tokenizer train --translation --kind "$tokenizer_kind" --vocab-size "$vocab_size" --out "$tokenizer" \
        ${options[@]+"${options[@]}"} $(for code in $languages; do echo "$data/train/text.$code"; done)
}

# learn FOLDER OVERRIDE...: s2s train with what all trainings here share.
learn() {
    local folder=$1
    shift
    if $force; then rm -rf "$folder"; fi
    s2s train --config-dir conf --config-name "$config" exp_dir="$folder" tokenizer="$tokenizer" \
        text.train="[$data/train]" text.valid="[$data/dev]" text.pairs="[${pairs// /,}]" "${devices[@]}" \
        ${overrides[@]+"${overrides[@]}"} "$@"
}

pretrain() {
    learn "$exp/pretrain" task=denoising training.max_epochs="$pretrain"
    s2s average "$exp/pretrain" --last 1 --out "$exp/pretrained"
}

train() { learn "$exp/train" ${begin[@]+"${begin[@]}"}; }

average() { s2s average "$exp/train" --last "$last" --out "$exp/averaged"; }

translate() {
    for test in $tests; do
        for pair in $translate_pairs; do
            local out=$exp/translate/$test/$pair options=() sources=${pair%-*} code
            for code in $(tail -n +2 <<< "${sources//+/$'\n'}"); do options+=(--also "$data/$test/text.$code"); done
            if $prompted; then options+=(--source-language "${pair%-*}" --target-language "${pair#*-}"); fi
            mkdir -p "$out"
            s2s translate --model "$exp/averaged" --beam-size "$beam_size" --device "$device" ${options[@]+"${options[@]}"} \
                --output "$out/text" "$data/$test/text.${sources%%+*}"
        done
    done
}

score() {
    for test in $tests; do
        for pair in $translate_pairs; do
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
        python "$recipes/table.py" "$exp/translate/$test" --learnt $pairs | tee "$exp/translate/$test/table.md"
    done
}

bundle() {
    local results=()
    for test in $tests; do
        for pair in $translate_pairs; do results+=(--results "$test, $pair=$exp/translate/$test/$pair/score.txt"); done
    done
    s2s bundle "$exp/averaged" --out "$exp/bundle" --title "$title" --training-data "$corpus" "${results[@]}"
}

run_stages $stages
