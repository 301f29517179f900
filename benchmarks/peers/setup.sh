#!/usr/bin/env bash
# Makes an environment that peers of the benchmarks run in; git ignores it.
#
#   benchmarks/peers/setup.sh [decoding [FOLDER]]    of decoding.py: benchmarks/.peers, 5.5 GB, five to ten minutes
#   benchmarks/peers/setup.sh whisper [FOLDER]       of whisper.py: benchmarks/.peers-whisper, 2.7 GB with torch for CPUs
#
# PYTHON names the interpreter (default: python3; 3.11 was tried). A peer that cannot be installed is left out.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kind=${1:-decoding}
case $kind in
    decoding)
        folder=${2:-$here/../.peers}
        torch="torch==2.11.0 torchaudio==2.11.0" # the pair that ESPnet 202511 and SpeechBrain 1.1 work with
        ;;
    whisper)
        folder=${2:-$here/../.peers-whisper}
        torch="torch==2.13.0"
        ;;
    *)
        echo "error: $kind: expected decoding or whisper, then the folder" >&2
        exit 2
        ;;
esac

"${PYTHON:-python3}" -m venv "$folder" || { echo "error: no environment in $folder" >&2; exit 1; }
folder=$(cd "$folder" && pwd)
python=$folder/bin/python
echo '*' >"$folder/.gitignore"
echo "torch: into $folder"
# shellcheck disable=SC2086
"$python" -m pip install --quiet $torch safetensors numpy >"$folder/torch.log" 2>&1 ||
    { echo "error: torch cannot be installed; see $folder/torch.log" >&2; exit 1; }

wanted=0
missing=0
peer() { # name, what to install, script, what it is
    wanted=$((wanted + 1))
    echo "$1: $4"
    # Naming torch again keeps a peer from exchanging it. The script's --help imports all that it needs.
    # shellcheck disable=SC2086
    if "$python" -m pip install --quiet $2 $torch >"$folder/$1.log" 2>&1 &&
        "$python" -B "$here/$3" --help >>"$folder/$1.log" 2>&1; then
        echo "$1: installed ($2)"
    else
        echo "$1: could not be installed ($2), so its figures are left out; see $folder/$1.log"
        missing=$((missing + 1))
    fi
}
if [[ $kind == decoding ]]; then
    peer espnet espnet==202511 espnet_decode.py "joint CTC/attention beam search, hypotheses batched, utterances one at a time"
    peer speechbrain speechbrain==1.1.0 speechbrain_decode.py "joint CTC/attention beam search, utterances batched"
    peer transformers transformers==5.23.0 transformers_decode.py "attention-only beam search (generate), utterances batched"
    echo "wenet: not on the package registry, so its figures are left out"
else
    peer faster-whisper "faster-whisper==1.2.1 ctranslate2==4.8.5" whisper_faster.py "CTranslate2, float32 and int8, windows one at a time and batched"
    peer openai-whisper openai-whisper==20250625 whisper_openai.py "the original, windows one at a time"
    peer transformers transformers==5.23.0 whisper_transformers.py "generate and pipeline, windows one at a time and batched"
fi

if ((missing == wanted)); then
    echo "error: no peer could be installed" >&2
    exit 1
fi
echo "python: $python"
