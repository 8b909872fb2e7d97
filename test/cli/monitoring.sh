#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# monitoring.sh TWINLOG KEEP_APPENDING: the dashboard and the alert rules of packaging/monitoring ask for series that
# 'twinlog stat --prometheus' prints, and are JSON and rules; and the alerts fire beside real faults.
set -u
keep_appending=$(realpath "$2")
folder=$(realpath "$(dirname "$0")/../../packaging/monitoring")
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"
service= # the process that keep_writing() has started, as long as it runs
# An interrupted run leaves neither that nor a mount.
trap '[ -z "$service" ] || kill -KILL "$service"; umount -l disk small 2>/dev/null; rm -rf "$place" "$public"' EXIT
trap 'exit 1' INT TERM

echo record | "$twinlog" append log
"$twinlog" cursors log --set reader=1 >out
"$twinlog" archive log --command ': %p %f' >out
status "stat --prometheus" 0 "$twinlog" stat log --prometheus
mv out page
status "verify --prometheus" 0 "$twinlog" verify log --prometheus
grep -ho '^twinlog_[a-z_]*' page out | sort -u >printed
for file in alerts.yaml grafana.json; do
    grep -v '"\(title\|uid\|description\)"' "$folder/$file" | grep -o '\btwinlog_[a-z_]*' | sort -u >asked
    subject=$file
    count "it asks for series" $((!$(wc -l <asked)))
    comm -23 asked printed >unknown
    count "nothing prints $(tr '\n' ' ' <unknown)" "$(wc -l <unknown)"
done
sed -n 's/^ *runbook_url: .*#\(.*\)"/\1/p' "$folder/alerts.yaml" | sort -u >asked
sed -n 's/^## //p' "$folder/../../docs/runbook.md" | tr 'A-Z ' 'a-z-' | tr -d ',' | sort -u >printed
comm -23 asked printed >unknown
count "the runbook has no $(tr '\n' ' ' <unknown)" "$(wc -l <unknown)"
# A person that an alert calls looks for its name in the section that it leads to.
awk '/alert: / { name = $3 } /runbook_url: / { sub(/.*#/, ""); sub(/"$/, ""); print $0, name }' "$folder/alerts.yaml" | sort -u >led
awk '/^## / { section = tolower(substr($0, 4)); gsub(/,/, "", section); gsub(/ /, "-", section); next }
     { while (match($0, /Twinlog[A-Z][A-Za-z]*/)) { print section, substr($0, RSTART, RLENGTH); $0 = substr($0, RSTART + RLENGTH) } }' \
    "$folder/../../docs/runbook.md" | sort -u >named
comm -23 led named >unnamed
count "the runbook does not name, section and alert: $(tr '\n' ';' <unnamed)" "$(wc -l <unnamed)"
if command -v jq >/dev/null; then
    status "the dashboard is JSON" 0 jq -e '.panels | length > 5 and all(.targets | length > 0)' "$folder/grafana.json"
elif command -v python3 >/dev/null; then
    status "the dashboard is JSON" 0 python3 -m json.tool "$folder/grafana.json"
else
    echo "SKIP monitoring, the dashboard's syntax: neither jq nor python3 is here"
fi
if command -v promtool >/dev/null; then
    status "the rules are what Prometheus takes" 0 promtool check rules "$folder/alerts.yaml"
    # shellcheck disable=SC2016 # promtool reads its standard input
    status "so are those of verify" 0 sh -c '"$1" verify log --prometheus | promtool check metrics' sh "$twinlog"
    # shellcheck disable=SC2016 # promtool reads its standard input
    status "so are the metrics" 0 sh -c '"$1" stat log --prometheus | promtool check metrics' sh "$twinlog"
else
    echo "SKIP monitoring, the rules' syntax: promtool (package prometheus) is not here"
fi

# ---- faults --------------------------------------------------------------------------------------

# scrape LOG FILE
scrape() { status "stat --prometheus of $1" 0 "$twinlog" stat "$1" --prometheus && mv out "$2"; }

# fires NAME ALERTS SCRAPE...: the rules make of these scrapes, a minute apart, and of the last one for half an hour, only
# these alerts, each once. None: they make no alert.
fires()
{
    name=$1
    alert=$2
    shift 2
    for last in "$@"; do :; done
    command -v promtool >/dev/null || return 0
    {
        printf 'rule_files: ["%s"]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n' \
            "$folder/alerts.yaml"
        grep -h '^twinlog_[a-z_]*{' "$@" | sed 's/ [^ ]*$//' | sort -u | grep -v _bucket | while read -r series; do
            printf "      - series: '%s'\n        values: '" "$series"
            for scrape in "$@"; do
                grep -F "$series " "$scrape" | sed 's/.* //'
            done | tr '\n' ' '
            printf "%s+0x30'\n" "$(grep -F "$series " "$last" | sed 's/.* //')"
        done
        # the times of records are of today, and those of the tests begin with 1970
        printf '    promql_expr_test:\n      - expr: %s\n        eval_time: %sm\n        exp_samples:\n' \
            "'count by (alertname) (ALERTS{alertstate=\"firing\"})'" "${minutes:-10}"
        for one in $alert; do
            [ "$one" = none ] || printf '          - { labels: "{alertname=\\"%s\\"}", value: 1 }\n' "$one"
        done
    } >test.yaml
    status "$name" 0 promtool test rules test.yaml
    [ "$got" = 0 ] || cat out
}

test_stopped()
{
    start_writer stopped
    echo record >&3
    read -r lsn <&4
    scrape stopped scrape1
    fires "no alert beside a writer at work" none scrape1
    kill -STOP "$writer"
    wait_until "grep -q '^State:.T' /proc/$writer/status"
    scrape stopped scrape2
    says "a stopped writer is seen" scrape2 '^twinlog_writer_stopped\{dir="stopped"\} 1$'
    says "with its counters" scrape2 '^twinlog_appends_total\{dir="stopped"\} 1$'
    fires "an alert for a stopped writer" TwinlogWriterStopped scrape1 scrape2
    kill -CONT "$writer"
    stop_writer TERM
    scrape stopped scrape3
    fires "and one for a writer that is gone" TwinlogWriterGone scrape1 scrape3
}

test_poisoned()
{
    start_writer poisoned
    echo record >&3
    read -r lsn <&4
    scrape poisoned scrape1
    poison poisoned
    scrape poisoned scrape2
    says "a poisoned log has its counters" scrape2 '^twinlog_appends_total\{dir="poisoned"\} 1$'
    fires "an alert for a poisoned log" TwinlogPoisoned scrape1 scrape2
    stop_writer KILL
}

test_lag()
{
    two_hours_ago=$(($(date +%s) - 7200))
    printf 'twinlog export 1\n1 %s000000000 0 0 1\na\n2 %s000000000 0 0 1\nb\nend\n' "$two_hours_ago" "$two_hours_ago" >in
    status "import of old records" 0 "$twinlog" append lags --import <in
    start_writer lags
    echo record >&3
    read -r lsn <&4
    "$twinlog" cursors lags --set 'slow "one"=1' >out
    "$twinlog" cursors lags --set quick=3 >out
    scrape lags scrape1
    says "a cursor" scrape1 '^twinlog_cursor_lsn\{dir="lags",cursor="slow \\"one\\""\} 1$'
    says "how many records are behind it" scrape1 '^twinlog_cursor_lag_records\{dir="lags",cursor="slow \\"one\\""\} 2$'
    says "how many bytes" scrape1 '^twinlog_cursor_lag_bytes\{dir="lags",cursor="slow \\"one\\""\} [1-9]'
    says "how old they are" scrape1 '^twinlog_cursor_lag_seconds\{dir="lags",cursor="slow \\"one\\""\} 72[0-9][0-9]'
    says "nothing is behind another one" scrape1 '^twinlog_cursor_lag_seconds\{dir="lags",cursor="quick"\} 0$'
    fires "an alert for it" TwinlogConsumerLags scrape1
    stop_writer TERM
}

# feed LINES: to the writer, until all of them have their LSNs.
feed()
{
    seq "$1" >&3
    for _ in $(seq "$1"); do
        read -r lsn <&4
    done
}

test_archive()
{
    start_writer kept --segment 64K
    feed 20000
    status "an archive" 0 "$twinlog" archive kept --command ': %p %f'
    scrape kept scrape1
    says "without failures" scrape1 '^twinlog_cursor_failures\{dir="kept",cursor="archive"\} 0$'
    fires "the newest segment is never archived" none scrape1
    feed 20000
    scrape kept scrape2
    fires "an alert for an archive that nobody keeps" TwinlogArchiveBehind scrape1 scrape2
    "$twinlog" archive kept --command ': %p %f' >out
    # Just enough lines that there is a segment to archive: the archive is not behind yet.
    got=0
    for part in $(seq 30); do
        feed 100
        "$twinlog" archive kept --command 'false %p %f' >out 2>err || got=$?
        [ "$got" = 0 ] || break
    done
    count "a command that fails, after $part hundred lines" $((got != 1))
    for try in 2 3; do
        status "a command that fails, $try" 1 "$twinlog" archive kept --command 'false %p %f'
    done
    scrape kept scrape2
    says "failures are counted" scrape2 '^twinlog_cursor_failures\{dir="kept",cursor="archive"\} 3$'
    fires "an alert for a command that fails" TwinlogCursorFails scrape1 scrape2
    stop_writer TERM
    status "an archive that gets on" 0 "$twinlog" archive kept --command ': %p %f'
    scrape kept scrape3
    says "has no failures any more" scrape3 '^twinlog_cursor_failures\{dir="kept",cursor="archive"\} 0$'
}

# The server of a stream is gone. That they are counted from the last success: see ship.sh in stream.
test_ship()
{
    start_writer shipped
    echo record >&3
    read -r lsn <&4
    "$twinlog" cursors shipped --set 'to the west=0' >out
    scrape shipped scrape1
    "$twinlog" ship shipped nats://127.0.0.1:1/subject --cursor 'to the west' --once --wait 1s >out 2>err
    case $? in
        1) count "a server that is gone ends it" 0 ;;
        5) skip "a server that is gone" "there is no module for NATS" ;;
        *) count "a server that is gone ends it" 1 ;;
    esac
    if ! grep -q 'built without' err; then
        scrape shipped scrape2
        says "its failures are counted" scrape2 '^twinlog_cursor_failures\{dir="shipped",cursor="to the west"\} [1-9]'
        says "with the last one in words" shipped/failures/to%20the%20west '^failure: .'
        fires "an alert for a shipper that fails" TwinlogCursorFails scrape1 scrape2
    fi
    stop_writer TERM
}

test_unseen()
{
    mkdir "$public/unseen"
    cd "$public" || exit 1
    start_writer unseen/log
    echo record >&3
    read -r lsn <&4
    chmod 755 "$public" "$public/unseen"
    chmod 444 unseen/log/writer.lock
    cp "$twinlog" "$public/twinlog"
    status "a user that may only read" 0 as_nobody "$public/twinlog" stat unseen/log --prometheus
    says "sees the counters" out '^twinlog_appends_total\{dir="unseen/log"\} 1$'
    same "and no complaint" /dev/null err
    chmod 000 unseen/log/writer.lock
    status "a user that may not even read" 1 as_nobody "$public/twinlog" stat unseen/log --prometheus
    says "is told so" out '^twinlog_counters_up\{dir="unseen/log"\} 0$'
    says "and why" err 'Permission denied'
    mv out "$place/scrape1"
    chmod 644 unseen/log/writer.lock
    stop_writer TERM
    cd "$place" || exit 1
    fires "an alert for that" TwinlogUnseen scrape1
}

test_full()
{
    mkdir small
    if ! mount -t tmpfs -o size=3m tmpfs small 2>/dev/null; then
        skip "an alert for a full disk" "only root may mount one"
        return
    fi
    "$keep_appending" small/log &
    writer=$!
    # shellcheck disable=SC2016 # for eval
    wait_until '[ -d small/log ] && "$twinlog" stat small/log --prometheus 2>/dev/null | grep -q "^twinlog_append_failures_total.*kind=\"full\".* [1-9]"'
    count "refusals are seen while the disk is full" $?
    scrape small/log scrape1
    sleep 0.1
    scrape small/log scrape2
    minutes=2 fires "an alert for a full disk" TwinlogFull scrape1 scrape2
    says "the file of the counters has its room" scrape2 '^twinlog_counters_up\{dir="small/log"\} 1$'
    kill "$writer"
    wait "$writer" 2>/dev/null
    umount small
}

# failures LOG KIND: are there appends that failed for that?
failures() { "$twinlog" stat "$1" --prometheus 2>/dev/null | grep -q "^twinlog_append_failures_total.*kind=\"$2\".* [1-9]"; }

# keep_writing LOG: a service that goes on after errors; its process is in `service`, its first page in scrape1.
keep_writing()
{
    "$keep_appending" "$1" &
    service=$!
    wait_until "[ -d $1 ] && '$twinlog' stat $1 --prometheus 2>/dev/null | grep -q '^twinlog_rolls_total.* [2-9]'"
    scrape "$1" scrape1
    fires "no alert beside $1" none scrape1
}

stop_writing()
{
    kill "$service"
    wait "$service" 2>/dev/null
    service=
}

# An ext4 file system that meets an error becomes read-only below its writers; a directory may be made immutable.
test_read_only()
{
    truncate -s 24M image
    mkdir disk
    if ! mkfs.ext4 -q image 2>/dev/null || ! mount -o loop image disk 2>/dev/null; then
        skip "an alert for a read-only file system" "no file system can be made and mounted here"
        return
    fi
    keep_writing disk/log
    chattr +i disk/log
    wait_until failures disk/log other
    count "an immutable directory makes appends fail" $?
    scrape disk/log scrape2
    minutes=2 fires "an alert for that" TwinlogAppendsFail scrape1 scrape2
    chattr -i disk/log
    scrape disk/log scrape1
    mount -o remount,abort disk
    # The first one to meet it is a new segment, which is refused, or a write, which poisons the log.
    wait_until 'failures disk/log read_only || failures disk/log poisoned'
    count "a read-only file system makes appends fail" $?
    scrape disk/log scrape2
    alerts=
    grep -q '^twinlog_append_failures_total.*"read_only".* [1-9]' scrape2 && alerts=TwinlogReadOnly
    grep -q '^twinlog_poisoned.* 1$' scrape2 && alerts="TwinlogPoisoned $alerts"
    minutes=2 fires "an alert for that" "${alerts:-missing}" scrape1 scrape2
    stop_writing
    umount disk
}

test_limit()
{
    command -v prlimit >/dev/null || { skip "an alert for a limit" "prlimit is not here" && return; }
    keep_writing limited
    prlimit --nofile=3: --pid "$service"
    wait_until failures limited limit
    count "a limit on open files makes appends fail" $?
    scrape limited scrape2
    says "appends that failed did not wait for a segment and get it" scrape2 '^twinlog_poisoned.* 0$'
    minutes=2 fires "an alert for that" TwinlogLimit scrape1 scrape2
    stop_writing
}

# The writer does not look at what it has written, and goes on.
test_damage()
{
    keep_writing hurt
    mv hurt/state state
    status "stat --prometheus says it by its status" 3 "$twinlog" stat hurt --prometheus
    mv out scrape2
    says "and by a series" scrape2 '^twinlog_damaged\{dir="hurt"\} 1$'
    says "the writer is seen, too" scrape2 '^twinlog_writer_up\{dir="hurt"\} 1$'
    fires "an alert for a log without its state file" TwinlogDamaged scrape1 scrape2
    wait_until "'$twinlog' stat hurt --prometheus 2>/dev/null | grep -q '^twinlog_trim_failures_total.* [1-9]'"
    count "the writer cannot look for limits" $?
    status "trim beside it" 3 "$twinlog" trim hurt --before 5
    says "says that it is damaged" err 'the file state is missing'
    says "and not to stop it" err 'do not stop it\. Copy the directory'
    mv state hurt/state

    printf X | dd of=hurt/0000000000000001.twl bs=1 seek=5000 conv=notrunc status=none
    status "verify --prometheus says it by its status" 3 "$twinlog" verify hurt --prometheus
    mv out scrape2
    says "and by a series" scrape2 '^twinlog_verify_damaged\{dir="hurt"\} 1$'
    says "what it has found is on standard error" err '^damage: '
    fires "an alert for a segment that is damaged" TwinlogVerifyFound scrape2
    "$twinlog" cursors hurt --set stuck=0 >out
    scrape hurt scrape1
    says "a consumer in front of it lags without end" scrape1 '^twinlog_cursor_lag_seconds\{dir="hurt",cursor="stuck"\} \+Inf$'
    fires "an alert for that consumer" TwinlogConsumerLags scrape1
    stop_writing
}

# slow ALERT SERIES VALUES...: what takes an hour, or another disk, is made up.
slow()
{
    alert=$1
    shift
    command -v promtool >/dev/null || return 0
    {
        printf 'rule_files: ["%s"]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n' "$folder/alerts.yaml"
        printf "      - { series: '%s', values: '%s' }\n" "$@"
        printf '    promql_expr_test:\n      - expr: %s\n        eval_time: 80m\n        exp_samples:\n' \
            "'count by (alertname) (ALERTS{alertstate=\"firing\"})'"
        printf '          - { labels: "{alertname=\\"%s\\"}", value: 1 }\n' "$alert"
    } >test.yaml
    status "the alert $alert" 0 promtool test rules test.yaml
    [ "$got" = 0 ] || cat out
}

slow TwinlogSilent 'twinlog_writer_up{dir="d"}' '1x90' 'twinlog_newest_record_timestamp_seconds{dir="d"}' '0x90'
slow TwinlogSlowDisk 'twinlog_group_write_seconds_bucket{le="0.1"}' '0+10x90' 'twinlog_group_write_seconds_bucket{le="+Inf"}' '0+20x90' \
    'twinlog_group_write_seconds_bucket{le="1"}' '0+20x90'
slow TwinlogWaitsForSegments 'twinlog_roll_waits_total{dir="d"}' '0+120x90'
slow TwinlogTrimFails 'twinlog_trim_failures_total{dir="d"}' '0+60x90'
slow TwinlogNotVerified 'twinlog_verify_timestamp_seconds{dir="d"}' '-300000x90'
slow TwinlogOldMetrics 'node_textfile_mtime_seconds{file="/srv/twinlog-srv-log.prom"}' '0x90'
slow TwinlogGrows 'twinlog_file_size_bytes{dir="d"}' '2000000000+100000000x90'
test_stopped
test_poisoned
test_lag
test_archive
test_ship
test_unseen
test_full
test_read_only
test_limit
test_damage

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
