#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# monitoring.sh TWINLOG: the dashboard and the alert rules of packaging/monitoring ask for series that 'twinlog stat
# --prometheus' prints, and are JSON and rules.
set -u
folder=$(realpath "$(dirname "$0")/../../packaging/monitoring")
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

echo record | "$twinlog" append log
status "stat --prometheus" 0 "$twinlog" stat log --prometheus
grep -o '^twinlog_[a-z_]*' out | sort -u >printed
for file in alerts.yaml grafana.json; do
    grep -v '"\(title\|uid\|description\)"' "$folder/$file" | grep -o '\btwinlog_[a-z_]*' | sort -u >asked
    subject=$file
    count "it asks for series" $((!$(wc -l <asked)))
    comm -23 asked printed >unknown
    count "nothing prints $(tr '\n' ' ' <unknown)" "$(wc -l <unknown)"
done
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
    status "so are the metrics" 0 sh -c '"$1" stat log --prometheus | promtool check metrics' sh "$twinlog"
else
    echo "SKIP monitoring, the rules' syntax: promtool (package prometheus) is not here"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
