#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# failed.sh LOGS | --check: what the tests that have failed printed last, from the JUnit files LOGS/test-PRESET.xml of ctest:
# for the end of a long run, when its beginning may be out of sight. --check: does it show them?
set -u

# last_words FILE: each test of the file that has failed, with the last 25 lines that it printed.
last_words()
{
    preset=${1##*/test-}
    awk -v preset="${preset%.xml}" '
        function plain(text) {
            gsub(/&lt;/, "<", text)
            gsub(/&gt;/, ">", text)
            gsub(/&quot;/, "\"", text)
            gsub(/&apos;/, "\047", text)
            gsub(/&amp;/, "\\&", text)
            return text
        }
        function show(    i) {
            print "-- " preset " " name ", after " seconds " s"
            for (i = count > 25 ? count - 24 : 1; i <= count; i++) print "   " plain(line[i])
        }

        /<testcase / {
            split($0, part, "\"")
            name = part[2]
            seconds = part[6]
            has_failed = /status="fail"/
            count = 0
        }
        !has_failed { next }
        sub(/.*<system-out>/, "") { is_output = 1 }
        is_output {
            is_last = sub(/<\/system-out>.*/, "")
            if (!is_last || $0 != "") line[++count] = $0
        }
        is_last { is_output = is_last = 0 }
        /<\/testcase>/ { show(); has_failed = 0 }' "$1"
}

# failed LOGS
failed()
{
    set -- "$1"/test-*.xml
    [ -e "$1" ] || { echo "there is no file of results: $1"; return 1; }
    for results in "$@"; do
        last_words "$results"
    done
}

# ---- the canary -------------------------------------------------------------------------------------

# One of three has failed; it printed 30 lines, of which the last 25 are wanted.
write_results()
{
    cat <<'END'
<testsuite name="Linux-c++" tests="3">
	<testcase name="before" classname="before" time="1.0" status="run">
		<system-out>not this
</system-out>
	</testcase>
	<testcase name="broken" classname="broken" time="1.5" status="fail">
		<failure message=""/>
		<properties/>
END
    printf '\t\t<system-out>'
    seq 29
    cat <<'END'
&quot;a &amp;lt; b&quot;
</system-out>
	</testcase>
	<testcase name="behind" classname="behind" time="1.0" status="run">
		<system-out>nor this
</system-out>
	</testcase>
</testsuite>
END
}

check()
{
    place=$(mktemp -d) || exit 1
    trap 'rm -rf "$place"' EXIT
    write_results >"$place/test-dev.xml"
    {
        echo "-- dev broken, after 1.5 s"
        seq 6 29 | sed 's/^/   /'
        echo '   "a &lt; b"'
    } >"$place/want"
    failed "$place" >"$place/got" || exit 1
    diff "$place/want" "$place/got" || exit 1

    mkdir "$place/empty"
    ! failed "$place/empty" >"$place/got"
}

if [ "$1" = --check ]; then
    check
else
    failed "$1"
fi
