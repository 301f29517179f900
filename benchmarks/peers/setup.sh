#!/usr/bin/env bash
# Makes the environment that the peers of benchmarks/decoding.py run in: 5.5 GB and five to ten minutes.
#
#   benchmarks/peers/setup.sh [FOLDER]    default: benchmarks/.peers, which git ignores
#
# PYTHON names the interpreter (default: python3; 3.11 was tried). A peer that cannot be installed is left out.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$here/../.peers}
torch="torch==2.11.0 torchaudio==2.11.0" # the pair that ESPnet 202511 and SpeechBrain 1.1 work with

"${PYTHON:-python3}" -m venv "$folder" || { echo "error: no environment in $folder" >&2; exit 1; }
folder=$(cd "$folder" && pwd)
python=$folder/bin/python
echo "torch: into $folder"
# shellcheck disable=SC2086
"$python" -m pip install --quiet $torch safetensors numpy >"$folder/torch.log" 2>&1 ||
    { echo "error: torch cannot be installed; see $folder/torch.log" >&2; exit 1; }

missing=0
peer() { # name, what to install, script, what it is
    echo "$1: $4"
    # Naming torch again keeps a peer from exchanging it. The script's --help imports all that it needs.
    # shellcheck disable=SC2086
    if "$python" -m pip install --quiet "$2" $torch >"$folder/$1.log" 2>&1 &&
        "$python" -B "$here/$3" --help >>"$folder/$1.log" 2>&1; then
        echo "$1: installed ($2)"
    else
        echo "$1: could not be installed ($2), so its figures are left out; see $folder/$1.log"
        missing=$((missing + 1))
    fi
}
peer espnet espnet==202511 espnet_decode.py "joint CTC/attention beam search, hypotheses batched, utterances one at a time"
peer speechbrain speechbrain==1.1.0 speechbrain_decode.py "joint CTC/attention beam search, utterances batched"
peer transformers transformers==5.23.0 transformers_decode.py "attention-only beam search (generate), utterances batched"
echo "wenet: not on the package registry, so its figures are left out"

if ((missing == 3)); then
    echo "error: no peer could be installed" >&2
    exit 1
fi
echo "python: $python"
