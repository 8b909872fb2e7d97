#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# abi.sh [--renew] BUILD: what programs were compiled against stays. The record, test/abi/0.1.txt, has a line for each
# declaration and each constant of the public headers, for each field with its place and size, for the size of each
# structure that may not grow, and for each symbol that the library exports. Today's headers and library make the same.
#
# --renew makes the record anew. Before 0.1.0 do so after each change of the interface. After 0.1.0 do so only for
# additions, or with another SONAME: see "The ABI" in docs/design.md.
set -u
here=$(realpath "$(dirname "$0")")
renew=
if [ "${1:-}" = --renew ]; then
    renew=1
    shift
fi
build=$(realpath "$1") || exit 1
cc=${CC:-cc}
for tool in "$cc" nm; do
    command -v "$tool" >/dev/null || { echo "SKIP abi: there is no $tool"; exit 77; }
done
record=$here/0.1.txt
include=$here/../../include
# shellcheck source=test/complaints.sh
. "$here/../complaints.sh"
make_scratch "$build/abi.XXXXXX"

# The headers without comments and empty lines, and no line is continued.
stripped()
{
    cat "$include/twinlog.h" "$include/twinlog_admin.h" "$include/twinlog_sink.h" |
        sed -E ':a; N; $!ba; s,/\*([^*]|\*+[^*/])*\*+/,,g; s, *\\\n *, ,g; s, +\n,\n,g; s,\n+,\n,g; s,^\n,,'
}

# Every declaration of a function, one a line.
functions()
{
    "$cc" -E -P -I"$include" -include "$include/twinlog_admin.h" "$include/twinlog_sink.h" | tr '\n' ' ' | tr ';' '\n' |
        sed 's/  */ /g; s/^ //' | grep -E '^[^{}]*\btwinlog_[a-z_]+\(.*\)$'
}

# A program that prints each field of the public structures with its offset and size, the size of those that may not
# grow, and each constant. A structure that begins with `uint32_t size` may grow.
layout_program()
{
    printf '#include <stddef.h>\n#include <stdio.h>\n#include <twinlog_admin.h>\n#include <twinlog_sink.h>\n'
    printf '#define FIELD(s, f) printf(#s "." #f " at %%zu, %%zu bytes\\n", offsetof(struct s, f), sizeof(((struct s *)0)->f))\n'
    printf 'int main(void)\n{\n'
    stripped |
        awk '/^struct [a-z_]+ \{/ { name = $2; fields = 0; next }
             /^enum [a-z_]+ \{/ { is_enum = 1; next }
             /^\};?/ { if (name && !grows) print "    printf(\"" name " %zu bytes\\n\", sizeof(struct " name "));"
                       name = ""; is_enum = 0; next }
             is_enum && match($0, /TWINLOG_[A-Z_0-9]+/) { constant(substr($0, RSTART, RLENGTH)) }
             /^#define TWINLOG_[A-Z_0-9]+ +[^ {"]/ && $2 !~ /_INIT$/ { constant($2) }
             name && /;/ {
                 line = $0
                 if (fields++ == 0) grows = line ~ /uint32_t size;/
                 if (match(line, /\(\*[a-z_]+\)/)) { field(substr(line, RSTART + 2, RLENGTH - 3)); next }
                 gsub(/\[[^]]*\]|;.*/, "", line)
                 count = split(line, part, ",")
                 for (i = 1; i <= count; i++) { match(part[i], /[a-z_0-9]+ *$/); field(substr(part[i], RSTART)) }
             }
             function field(f) { print "    FIELD(" name ", " f ");" }
             function constant(c) { print "    printf(\"" c " %lld\\n\", (long long)" c ");" }'
    printf '    return 0;\n}\n'
}

layout()
{
    layout_program >"$scratch/layout.c"
    "$cc" -I"$include" -o "$scratch/layout" "$scratch/layout.c" && "$scratch/layout"
}

# Each symbol with the version of its interface.
symbols() { nm -D --defined-only --format=posix "$build/libtwinlog.so" | awk '$2 != "A" { print "symbol " $1 }'; }

{ functions && layout && symbols; } >"$scratch/unsorted" 2>"$scratch/errors" || report "today's interface" "$(cat "$scratch/errors")"
LC_ALL=C sort "$scratch/unsorted" >"$scratch/today"
for kind in '^int twinlog_open(' '^twinlog_options.mode at ' '^symbol twinlog_open'; do
    grep -q "$kind" "$scratch/today" || report "today's interface" "nothing like $kind"
done
if [ -n "$renew" ]; then
    [ "$failures" = 0 ] && cp "$scratch/today" "$record"
    exit
fi
report "gone, or other than recorded" "$(LC_ALL=C comm -23 "$record" "$scratch/today")"
report "new, and not recorded" "$(LC_ALL=C comm -13 "$record" "$scratch/today")"
soname=$(readelf -d "$build/libtwinlog.so" 2>/dev/null | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ "${soname:-libtwinlog.so.0}" = libtwinlog.so.0 ] || report "SONAME" "$soname"

if [ "$failures" = 0 ]; then
    echo "abi: $(wc -l <"$record") declarations, fields, constants and symbols are as recorded"
else
    echo "abi: if this is meant, see the head of test/abi/abi.sh: test/abi/abi.sh --renew BUILD"
fi
exit "$((failures > 0))"
