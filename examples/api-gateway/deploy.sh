#!/bin/sh
# Deploys the gateway of every customer in a folder that `fleet` made: deploy.sh FOLDER [AT-ONCE]
#
# Where to and as whom is said by TENON_NODE and TENON_TOKEN. It may be broken off and run again: what is deployed already
# is not deployed twice.
set -eu
folder=$1/customers
if [ ! -d "$folder" ]; then
    echo "deploy.sh: there is no folder $folder; \`fleet\` makes it" >&2
    exit 1
fi
at_once=${2:-2}
export TENON=${TENON:-tenon}
ls "$folder" | xargs -P "$at_once" -I{} sh -ec '
    "$TENON" --quiet tenant set "$2" --apps 4 >/dev/null
    "$TENON" --quiet deploy "$1/$2" >/dev/null
' deploy "$folder" {}
