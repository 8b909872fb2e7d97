#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# probes.sh LIBRARY: the static probes in it are those of src/base/probes.h and of twinlog(7), and the scripts in probes/
# use no others; where bpftrace runs, it understands them.
set -u
library=$(realpath "$1") || exit 1
cd "$(dirname "$0")/.." || exit 1
command -v readelf >/dev/null || { echo "skipped: readelf is not here"; exit 77; }
failures=0

in_library=$(readelf -n "$library" | awk '/Provider: twinlog/ { getline; print $2 }' | sort -u)
[ -n "$in_library" ] || { echo "skipped: built without <sys/sdt.h>"; exit 77; }

# compare WHERE NAMES
compare()
{
    if [ "$2" != "$in_library" ]; then
        printf -- '--- in the library:\n%s\n--- in %s:\n%s\n' "$in_library" "$1" "$2"
        failures=$((failures + 1))
    fi
}

compare src/base/probes.h "$(sed -n 's/.*PROBE[234](\([a-z_]*\), log,.*/\1/p' src/base/probes.h | sort -u)"
compare man/twinlog.7 "$(sed -n 's/^\.It Cm \([a-z_]*\) Ar log.*/\1/p' man/twinlog.7 | sort -u)"
# shellcheck disable=SC2016 # the scripts have this $1
unknown=$(sed -n 's/^usdt:$1:twinlog:\([a-z_]*\)$/\1/p' probes/*.bt | sort -u | while read -r name; do
    echo "$in_library" | grep -qx "$name" || echo "$name"
done)
[ -z "$unknown" ] || { echo "no such probes, but scripts use them: $unknown"; failures=$((failures + 1)); }
if [ "$(id -u)" = 0 ] && timeout 20 bpftrace -d -e 'BEGIN { exit() }' >/dev/null 2>&1; then
    for script in probes/*.bt; do
        complaint=$(timeout 300 bpftrace -d "$script" "$library" 2>&1 >/dev/null) && continue
        echo "bpftrace does not take $script: $complaint"
        failures=$((failures + 1))
    done
else
    echo "SKIP bpftrace's look at probes/*.bt: it is not here, or may not run"
fi
[ "$failures" = 0 ] && echo "probes: $(echo "$in_library" | wc -l), everywhere the same"
exit "$((failures > 0))"
