# SPDX-License-Identifier: MIT-0
# shellcheck shell=sh
hello() { # EVENT
    echo "{\"shell got\": $1}"
}
