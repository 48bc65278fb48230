#!/bin/sh
# Deploys the gateway of every customer in a folder that `fleet` made: deploy.sh FOLDER [AT-ONCE]
#
# Where to and as whom is said by TENON_NODE and TENON_TOKEN. TENON is the program, QUOTA what each customer may use, as arguments
# of `tenon tenant set`. It says how far it is after every hundredth customer, and ends at the first that cannot be deployed. Broken
# off, it is run again: what is deployed already is not deployed twice.
set -eu
folder=$1/customers
if [ ! -d "$folder" ]; then
    echo "deploy.sh: there is no folder $folder; \`fleet\` makes it" >&2
    exit 1
fi
at_once=${2:-2}
export TENON="${TENON:-tenon}" QUOTA="${QUOTA:---apps 4}"
count=$(ls "$folder" | wc -l)
ls "$folder" | awk '{ print NR, $0 }' | xargs -P "$at_once" -L 1 sh -c '
    # QUOTA is words, as a person would write them; 255 ends xargs.
    "$TENON" --quiet tenant set "$4" $QUOTA >/dev/null && "$TENON" --quiet deploy "$1/$4" >/dev/null || exit 255
    if [ $(($3 % 100)) -eq 0 ]; then echo "$3 of $2"; fi
' deploy "$folder" "$count"
