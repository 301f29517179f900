#!/usr/bin/env bash
# English telephone prompts of one voice (Asterisk's core sounds, see ../st): letters against phonemes as units.
#   ./run.sh                                                                              letters
#   ./run.sh --tokenizer-kind lexicon --data data/phonemes --exp exp/phonemes             phonemes
#   ./run.sh --help                                                                       all options
# Phonemes are those of the CMU Pronouncing Dictionary (BSD), without stress; words that it lacks are spelled. Both
# models write words, phonemes by the dictionary, so that their word error rates are of the same text.
set -euo pipefail
cd "$(dirname "$0")"

export data=data/letters exp=exp/letters config=asterisk tests=test-en
export tokenizer_kind=char vocab_size=200 lexicon=data/lexicon.txt
export title="English telephone prompts"
export corpus="Asterisk core sounds (https://downloads.asterisk.org/pub/telephony/sounds/), CC BY-SA 3.0; CMUdict, BSD."
exec ../../../recipes/asr.sh "$@"
