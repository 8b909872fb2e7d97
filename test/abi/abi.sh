#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# abi.sh [--renew] BUILD: what programs were compiled against still works: the record in test/abi is of the headers and
# symbols that are promised. Every declaration of the recorded headers is in today's headers; every field is at
# its place and every constant has its value; the library exports the recorded symbols; and a program that was
# compiled with the recorded headers (BUILD/test/abi-program) runs with the library.
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
old=$here/0.1
new=$here/../../include
# shellcheck source=test/complaints.sh
. "$here/../complaints.sh"
make_scratch "$build/abi.XXXXXX"

# Each symbol with the version of its interface.
symbols() { nm -D --defined-only --format=posix "$build/libtwinlog.so" | awk '$2 != "A" { print $1 }' | LC_ALL=C sort; }

# stripped FILES: without comments and empty lines, and no line is continued.
stripped()
{
    cat "$@" | sed -E ':a; N; $!ba; s,/\*([^*]|\*+[^*/])*\*+/,,g; s, *\\\n *, ,g; s, +\n,\n,g; s,\n+,\n,g; s,^\n,,'
}

if [ -n "$renew" ]; then
    for header in twinlog.h twinlog_admin.h twinlog_sink.h; do
        { echo '/* SPDX-License-Identifier: Apache-2.0 */' && stripped "$new/$header"; } >"$old/$header" || exit
    done
    symbols >"$here/symbols"
    exit
fi

# functions HEADERS: every declaration of a function, one a line.
functions()
{
    "$cc" -E -P -I"$1" -include "$1/twinlog_admin.h" "$1/twinlog_sink.h" | tr '\n' ' ' | tr ';' '\n' | sed 's/  */ /g; s/^ //' |
        grep -E '^[^{}]*\btwinlog_[a-z_]+\(.*\)$' | LC_ALL=C sort
}

# A program that prints each field of the recorded structures with its offset and size, the size of those that may not
# grow, and each constant. A structure that begins with `uint32_t size` may grow.
layout_program()
{
    printf '#include <stddef.h>\n#include <stdio.h>\n#include <twinlog_admin.h>\n#include <twinlog_sink.h>\n'
    printf '#define FIELD(s, f) printf(#s "." #f " at %%zu, %%zu bytes\\n", offsetof(struct s, f), sizeof(((struct s *)0)->f))\n'
    printf 'int main(void)\n{\n'
    stripped "$old/twinlog.h" "$old/twinlog_admin.h" "$old/twinlog_sink.h" >"$scratch/stripped"
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
         function constant(c) { print "    printf(\"" c " %lld\\n\", (long long)" c ");" }' "$scratch/stripped"
    printf '    return 0;\n}\n'
}

# layout HEADERS: what the program prints with them.
layout()
{
    "$cc" -I"$1" -o "$scratch/layout" "$scratch/layout.c" && "$scratch/layout"
}

functions "$old" >"$scratch/functions.old"
functions "$new" >"$scratch/functions.new"
[ -s "$scratch/functions.old" ] || report "functions" "none in the recorded headers"
report "declarations that are gone, or others" "$(LC_ALL=C comm -23 "$scratch/functions.old" "$scratch/functions.new")"

layout_program >"$scratch/layout.c"
layout "$old" >"$scratch/layout.old" 2>&1
layout "$new" >"$scratch/layout.new" 2>&1
grep -q '^twinlog_options.mode at ' "$scratch/layout.old" || report "fields" "none found. $(head -n 5 "$scratch/layout.old")"
report "fields and constants that are gone, or others (<: as recorded)" "$(diff "$scratch/layout.old" "$scratch/layout.new")"

symbols | diff "$here/symbols" - >"$scratch/symbols" ||
    report "symbols (<: recorded only, >: in the library only)" "$(cat "$scratch/symbols")"
soname=$(readelf -d "$build/libtwinlog.so" 2>/dev/null | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ "${soname:-libtwinlog.so.0}" = libtwinlog.so.0 ] || report "SONAME" "$soname"

"$build/test/abi-program" "$scratch" >"$scratch/program" 2>&1 ||
    report "a program that was compiled with the recorded headers" "$(cat "$scratch/program")"

if [ "$failures" = 0 ]; then
    echo "abi: $(wc -l <"$scratch/functions.old") functions, $(wc -l <"$scratch/layout.old") fields and constants are as recorded"
else
    echo "abi: if this is meant, see the head of test/abi/abi.sh: test/abi/abi.sh --renew BUILD"
fi
exit "$((failures > 0))"
