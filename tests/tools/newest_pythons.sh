#!/bin/sh
# SPDX-License-Identifier: MIT-0
#
# tests/tools/newest_pythons.sh [NAME ...]
#
# Runs the tests, or those named, with the newest Pythons. No stable system has them yet, so they come from Debian's
# testing release: as a root file system in .dev, which takes about two minutes and is kept (make clean removes it).
# Exit status 77 says that they could not be had, and a line why.
set -eu
cd "$(dirname "$0")/../.."
versions="3.14 3.15"
root=.dev/debian-testing

not_tested() {
    echo "Python $versions: not tested, because $1" >&2
    exit 77
}

[ "$(id -u)" = 0 ] || not_tested "only root can make a root file system"
unshare --mount true 2>/dev/null || not_tested "there are no mount namespaces here"
if [ ! -e "$root/.ready" ]; then
    command -v debootstrap >/dev/null || not_tested "there is no debootstrap"
    echo "setting up Debian's testing release in $root" >&2
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include="busybox,make,python3.14,python3.15" testing "$root" >"$root.log" 2>&1 ||
        not_tested "debootstrap failed: $(tail -n 1 "$root.log")"
    mkdir "$root/src"
    touch "$root/.ready"
fi

status=0
for version in $versions; do
    echo "tests with Python $version"
    ln -sf "/usr/bin/python$version" "$root/usr/local/bin/python3"
    # Mounts in a namespace of their own end with the tests.
    # shellcheck disable=SC2016 # the inner shell expands them
    unshare --mount sh -ec '
        root=$1
        shift
        mount --bind . "$root/src"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/tmp \
            sh -c "cd /src && exec python3 -B tests/promises/run.py \"\$@\"" sh "$@"
    ' sh "$root" "$@" </dev/null || status=1
done
exit $status
