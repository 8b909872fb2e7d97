#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sink_service.sh TWINLOG: systemd takes the units in packaging; what that of the metrics runs writes them. Logrotate takes the
# stanza in packaging/sink; with both commands as they are written, a pipe, and a rotation in the middle every line is in one of
# the two files, once.
set -u
umask 022 # logrotate insists
command=$(realpath "$1") || exit 1
cd "$(dirname "$0")/.." || exit 1
place=$(mktemp -d /tmp/twinlog-service.XXXXXX) || exit 1 # units and the stanza name no path with a space
chmod 755 "$place"
ln -s "$command" "$place/twinlog" || exit 1
twinlog=$place/twinlog
sink=
trap '[ -z "$sink" ] || kill "$sink" 2>/dev/null; rm -rf "$place"' EXIT
fail()
{
    echo "$*"
    exit 1
}

# ---- what systemd says of the units; a unit without fault tells whether it can be asked here ----
mkdir "$place/units"
for unit in packaging/*/twinlog-*@.*; do
    sed "s,/usr/local/bin/twinlog,$twinlog," "$unit" >"$place/units/$(basename "$unit")"
done
printf '[Service]\nExecStart=/bin/true\n' >"$place/units/plain.service"
if systemd-analyze verify "$place/units/plain.service" >"$place/plain.txt" 2>&1 && [ ! -s "$place/plain.txt" ]; then
    for unit in "$place"/units/*@.*; do
        cp "$unit" "${unit%@*}@srv-test.${unit##*.}"
    done
    said=$(SYSTEMD_UNIT_PATH=$place/units: systemd-analyze verify "$place"/units/*@srv-test.* 2>&1 |
        grep twinlog- | grep -v 'man:twinlog\|Command .man ')
    [ -z "$said" ] || fail "systemd-analyze: $said"
else
    echo "SKIP systemd's look at the units: systemd-analyze is not here, or does not work here"
fi

# ---- the metrics ---------------------------------------------------------------------------------
# in_unit UNIT LOG NAME: the command of the unit, as systemd would start it for that log.
in_unit()
{
    sed -n 's,^ExecStart=,,p' "packaging/monitoring/$1" |
        sed "s,/usr/local/bin/twinlog,$twinlog,; s,%f,$2,; s,%i,$3,; s,%%,%,g; s,\\$\\$,\$,g" >"$place/line"
    (cd "$place" && sh line 2>err)
}
echo record | "$twinlog" append "$place/a log"
in_unit twinlog-metrics@.service "$place/a log" srv-log || fail "the metrics of a log"
grep -q '^twinlog_last_lsn.* 1$' "$place/twinlog-srv-log.prom" || fail "no metrics"
in_unit twinlog-verify@.service "$place/a log" srv-log || fail "the check of a log"
grep -q '^twinlog_verify_damaged.* 0$' "$place/verify-srv-log.prom" || fail "nothing says that it is sound"
mv "$place/a log/state" "$place/a log/moved"
in_unit twinlog-metrics@.service "$place/a log" srv-log && fail "the metrics of a damaged log: no status"
grep -q '^twinlog_damaged.* 1$' "$place/twinlog-srv-log.prom" || fail "no metrics say that it is damaged"
in_unit twinlog-verify@.service "$place/a log" srv-log && fail "the check of a damaged log: no status"
grep -q '^twinlog_verify_damaged.* 1$' "$place/verify-srv-log.prom" || fail "nothing says that it is damaged"
mv "$place/a log/moved" "$place/a log/state"
in_unit twinlog-verify@.service "$place/no log" srv-log && fail "the check of no log: no status"
grep -q '^twinlog_verify_damaged.* 1$' "$place/verify-srv-log.prom" || fail "a check that failed took away the last one"

# ---- the command of the service, with a pipe that never ends, as systemd opens it --------------
logs=$place/logs
mkdir "$logs" "$place/state"
mkfifo "$place/pipe"
sed -n "s,^ExecStart=/usr/local/bin/twinlog,,p" packaging/sink/twinlog-sink@.service |
    sed "s,/var/log/twinlog-sink/%i,$logs/test," >"$place/arguments"
# shellcheck disable=SC2046 # several words
"$twinlog" $(cat "$place/arguments") <>"$place/pipe" &
sink=$!

# still: for loops that wait for what the sink does
still()
{
    kill -0 "$sink" 2>/dev/null || fail "the sink has ended"
    sleep 0.05
}
seq 1 1000 >"$place/pipe"
until [ "$("$twinlog" sink --cat "$logs/test.log" 2>/dev/null | wc -l)" -ge 1000 ]; do
    still
done

# ---- the stanza, with the signal sent to this sink ----------------------------------------------
if command -v logrotate >/dev/null; then
    sed "s,/var/log/twinlog-sink,$logs,; s,systemctl .*,kill -HUP $sink,; s,/usr/local/bin/twinlog,$twinlog," packaging/sink/logrotate >"$place/stanza"
    chmod 644 "$place/stanza"
    logrotate -d -s "$place/state/s" "$place/stanza" >"$place/said.txt" 2>&1 || fail "logrotate -d: $(cat "$place/said.txt")"
    ! grep -i 'error' "$place/said.txt" || fail "logrotate -d complains"
    logrotate -f -s "$place/state/s" "$place/stanza" || fail "logrotate failed"
else
    echo "SKIP logrotate: it is not here; the file is renamed as it would"
    mv "$logs/test.log" "$logs/test.log.1"
    kill -HUP "$sink"
fi
until [ -e "$logs/test.log" ]; do
    still
done
seq 1001 2000 >"$place/pipe"
kill "$sink" # it writes what is in the pipe first
wait "$sink" 2>/dev/null
sink=
cat "$logs/test.log.1" "$logs/test.log" >"$place/both"
seq 1 2000 | cmp - "$place/both" || fail "the two files are not exactly what was written"
echo "units, stanza and 2000 lines are as they should be"
