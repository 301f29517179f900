#!/usr/bin/env bash
# Asterisk's core sounds: telephone prompts read in English, Spanish, French, Italian and Russian, one voice a language
# (CC BY-SA 3.0, Russian CC BY 3.0). One model recognises all five and translates in all twenty directions.
#   ./run.sh                    all 25 directions
#   ./run.sh --pairs "en-en es-es fr-fr it-it ru-ru en-es es-en en-fr fr-en en-it it-en en-ru ru-en" --decode-pairs all \
#       --exp exp/zero-shot     the other directions are zero-shot
#   ./run.sh --cascade          and a text model of the same prompts, behind the recogniser
#   ./run.sh --help             all options
# The voices are the same in training and test: this shows the pipeline, not how well other voices are understood. No
# prompt is in two parts (local/data.py says how they are divided).
set -euo pipefail
cd "$(dirname "$0")"

languages="en es fr it ru" every_pair=""
for source in $languages; do for target in $languages; do every_pair+="$source-$target "; done; done
export every_pair data=data exp=exp/run config=asterisk pairs=all
export tokenizer_kind=unigram vocab_size=600
export title="Telephone prompts in five languages"
export corpus="Asterisk core sounds (https://downloads.asterisk.org/pub/telephony/sounds/), CC BY-SA 3.0, ru CC BY 3.0."
exec ../../../recipes/st.sh "$@"
