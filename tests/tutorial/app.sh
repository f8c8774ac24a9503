# SPDX-License-Identifier: MIT-0
# shellcheck shell=sh
hello() { # EVENT
    printf '{"shell got": %s}\n' "$1"
}
