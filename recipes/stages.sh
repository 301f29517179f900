# What all recipes do alike: options, markers of stages that are done, devices. A recipe sources this, sets its defaults
# and `usage`, and calls `parse_options`, `check_numbers` and `run_stages`; its stages are functions.

stage=0 stop_stage=6 force=false nj=1 ngpu=0
data_root=${S2S_DATA:-} data=${data:-data} exp=${exp:-exp} data_options=${data_options:-}
title=${title:-} corpus=${corpus:-not stated}
overrides=() # expanded as ${x[@]+...}: before bash 4.4 an empty one is unset

common_options="stage stop-stage nj ngpu data-root data exp config tokenizer-kind vocab-size tests data-options"

# parse_options "NAMES" "FLAGS" ARG...: --name VALUE into a variable, --flag into true, KEY=VALUE into overrides.
parse_options() {
    local names=" $common_options $1 " flags=" force $2 " name
    shift 2
    while [ $# -gt 0 ]; do
        name=${1#--}
        case $1 in
            -h | --help) usage; exit 0 ;;
            --*=*) echo "$0: '$1' is neither an option nor KEY=VALUE; see --help" >&2; exit 2 ;;
            --*)
                if [[ $flags == *" $name "* ]]; then
                    printf -v "${name//-/_}" %s true
                    shift
                elif [[ $names == *" $name "* ]]; then
                    [ $# -ge 2 ] || { echo "$0: $1 needs a value; see --help" >&2; exit 2; }
                    printf -v "${name//-/_}" %s "$2"
                    shift 2
                else
                    echo "$0: '$1' is neither an option nor KEY=VALUE; see --help" >&2
                    exit 2
                fi ;;
            *=*) overrides+=("$1"); shift ;;
            *) echo "$0: '$1' is neither an option nor KEY=VALUE; see --help" >&2; exit 2 ;;
        esac
    done
    check_numbers stage stop_stage nj ngpu vocab_size
    command -v s2s > /dev/null || { echo "$0: no command s2s; activate the environment (. .venv/bin/activate)" >&2; exit 1; }
    device=cpu devices=("training.accelerator=cpu")
    if [ "$ngpu" -gt 0 ]; then device=cuda devices=("training.accelerator=gpu" "training.devices=$ngpu"); fi
}

# check_numbers VARIABLE...: stop unless each is a whole number.
check_numbers() {
    local name
    for name in "$@"; do
        [[ ${!name} =~ ^[0-9]+$ ]] || { echo "$0: --${name//_/-} ${!name}: expected a whole number" >&2; exit 2; }
    done
}

# split_overrides: decoding.* for s2s decode, all others for s2s train.
split_overrides() {
    local each
    train_overrides=() decode_overrides=()
    for each in ${overrides[@]+"${overrides[@]}"}; do
        case $each in
            decoding.* | decoding=*) decode_overrides+=("$each") ;;
            *) train_overrides+=("$each") ;;
        esac
    done
}

# choose_pairs OPTION VARIABLE: what of $pairs, and of the variable with what is to be written, by default the same.
# Sets their languages, and whether the model is told which one to write: where there are several.
choose_pairs() {
    if [ "$pairs" = all ]; then pairs=${every_pair:-all}; fi
    if [ "${!2}" = all ]; then printf -v "$2" %s "${every_pair:-all}"; fi
    printf -v "$2" %s "${!2:-$pairs}"
    check_pairs --pairs $pairs
    check_pairs "$1" ${!2}
    languages=$({ sources_of $pairs ${!2}; targets_of $pairs ${!2}; } | sort -u)
    prompted=false languages_name=${pairs// /_}
    if [ "$(targets_of $pairs ${!2} | wc -l)" -gt 1 ]; then prompted=true languages_name=$(paste -sd_ <<< "$languages"); fi
}

# check_pairs OPTION PAIR...: stop unless each is source-target.
check_pairs() {
    local option=$1 pair
    shift
    for pair in "$@"; do
        [[ $pair =~ ^[^-]+-[^-]+$ ]] || { echo "$0: $option $pair: expected source-target, such as en-de" >&2; exit 2; }
    done
}

# sources_of PAIR..., targets_of PAIR...: their languages, sorted, each once.
sources_of() { printf '%s\n' "${@%-*}" | tr + '\n' | sort -u; }
targets_of() { printf '%s\n' "${@#*-}" | sort -u; }

# run_stages NAME...: each unless it is outside the chosen range or done; what follows a stage is then no longer done.
run_stages() {
    local done_dir=$exp/.done number=0 name later
    mkdir -p "$done_dir"
    for name in "$@"; do
        if [ "$number" -ge "$stage" ] && [ "$number" -le "$stop_stage" ]; then
            if ! $force && [ -e "$done_dir/$number" ]; then
                echo "stage $number: $name is done already (remove $done_dir/$number or use --force to do it again)"
            else
                echo "stage $number: $name"
                for ((later = number; later < $#; later++)); do rm -f "$done_dir/$later"; done
                "$name"
                touch "$done_dir/$number"
            fi
        fi
        number=$((number + 1))
    done
}

# The stage of all recipes that makes the data.
data() { python local/data.py --data-root "$data_root" --out "$data" $data_options; }
