#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs.sh: the manual pages are clean and complete, their examples compile, and what the documents link
# to is there.
set -u
cd "$(dirname "$0")/../.." || exit 1
command -v mandoc >/dev/null || { echo "skipped: mandoc is not here"; exit 77; }
# shellcheck source=test/complaints.sh
. test/complaints.sh
# shellcheck source=test/strict.sh
. test/strict.sh
make_scratch "${TMPDIR:-/tmp}/twinlog-docs.XXXXXX"

# ---- manual pages ------------------------------------------------------------------------------

# Nothing may be missing on either side for the comparisons below to mean something.
functions_of_the_header()
{
    ${CC:-cc} -E -P -Iinclude -include twinlog_admin.h include/twinlog_sink.h | tr ';' '\n' | tr '\n' ' ' |
        grep -oE '\btwinlog_[a-z_]+\(' | tr -d '(' | sort -u
}

functions_of_the_pages()
{
    for page in man/*.3; do
        sed -n '/^\.Sh NAME/,/^\.Sh SYNOPSIS/s/^\.Nm \([a-z_]*\).*/\1/p' "$page" | while read -r name; do
            grep -qE "^\.F[no] $name\b" "$page" && echo "$name"
        done
    done | sort -u
}

functions()
{
    functions_of_the_header >"$scratch/header"
    functions_of_the_pages >"$scratch/pages"
    [ -s "$scratch/header" ] || echo "no function found in the public headers"
    comm -23 "$scratch/header" "$scratch/pages" | sed 's/$/: no page of section 3 has it in NAME and SYNOPSIS/'
    comm -13 "$scratch/header" "$scratch/pages" | sed 's/$/: has a page, but is in no public header/'
}

# Constants, and the fields of structures.
words()
{
    {
        grep -ohE '\bTWINLOG_[A-Z_]+\b' include/*.h | grep -v '^TWINLOG_\(E\|H\|ADMIN_H\|SINK_H\)$'
        sed -n '/^struct [a-z_]* {/,/^}/{ s,/\*.*,,; /^    [a-z]/p; }' include/*.h |
            grep -oE '[a-z_]+(\[[0-9]+\])?[,;]' | tr -d '[0-9],;' |
            grep -vx reserved
    } | sort -u >"$scratch/words"
    cat man/*.[37] | grep -owE '[A-Za-z_]+' | sort -u | comm -23 "$scratch/words" - |
        sed 's/$/: in a public header, but on no page/'
}

cross_references()
{
    cat man/*.[137] bench/*.1 powercut/*.1 raft/*.3 |
        sed -n 's/^\.Xr \(twinlog[a-z_-]*\) \([0-9]\).*/\1.\2/p' | sort -u | while read -r page; do
        [ -f "man/$page" ] || [ -f "bench/$page" ] || [ -f "powercut/$page" ] || [ -f "raft/$page" ] ||
            echo "man/$page: referred to, but not there"
    done
}

# The package twinlog lists its pages, as those of other commands are in packages of their own.
packaged()
{
    for page in man/*.1; do
        grep -qxF "usr/share/man/man1/${page#man/}" packaging/debian/twinlog.install ||
            echo "$page: not in packaging/debian/twinlog.install"
    done
}

# compile OPTION...: says what is wrong; a warning that is no error goes past the report.
compile()
{
    # shellcheck disable=SC2046 # an option, or none
    if ${CC:-cc} -fsyntax-only -Wall -Wextra $(werror "${CC:-cc}") "$@" >"$scratch/said" 2>&1; then
        cat "$scratch/said" >&2
    else
        cat "$scratch/said"
    fi
}

program()
{
    sed -n '/^\.Sh EXAMPLES/,/^\.Ed/p' man/twinlog.7 | sed '/^\./d; s/\\e/\\/g' >"$scratch/program.c"
    compile -Iinclude "$scratch/program.c"
}

# example_of PAGE: the code in its examples as a program, functions first, then each other block as a
# part of one function.
example_of()
{
    awk '/^\.Sh/ { is_example = $2 == "EXAMPLES" }
         /^\.Bd/ && is_example { is_code = 1; body = body "{\n"; next }
         /^\.Ed/ && is_code { is_code = 0; body = body "}\n" }
         !is_code { next }
         { gsub(/\\e/, "\\") }
         /^static / { is_function = 1 }
         is_function { functions = functions $0 "\n" }
         !is_function { body = body $0 "\n" }
         /^}/ { is_function = 0 }
         END { for (i = split("twinlog_admin twinlog_sink stdlib stdio poll errno", header, " "); i > 0; i--)
                   print "#include <" header[i] ".h>"
               print functions "void example(struct twinlog *log)\n{\n(void)log;\n" body "}" }' "$1"
}

examples()
{
    for page in man/*.3; do
        example_of "$page" >"$scratch/example.c"
        compile -Wno-unused -Wno-unused-parameter -Iinclude "$scratch/example.c" | sed "s,^,$page: ,"
    done
}

# The options that a page describes are those of the program's table and of its --help.
# shellcheck disable=SC2016 # sed's
options()
{
    for program in bench/main.c:bench/twinlog-bench.1 powercut/powercut.c:powercut/twinlog-powercut.1; do
        source=${program%:*}
        page=${program#*:}
        sed -nE 's/^\.It Fl -([a-z]+).*/\1/p' "$page" |
            sort -u >"$scratch/page"
        # argp adds two.
        { grep -oE '\{ "[a-z]+", ((no|required)_argument|NULL|"[A-Z]+")' "$source" | sed 's/^[^"]*"//; s/".*//' &&
            printf 'help\nversion\n'; } | sort -u >"$scratch/table"
        sed -nE '/^ +"  (--|-[a-z], )/{ s/^ +"  //; s/^(--[a-z]+), (--[a-z]+).*/\1 \2/; s/(--[a-z]+( --[a-z]+)?).*/\1/; s/--//g; s/ /\n/; p }' "$source" |
            sort -u >"$scratch/help"
        [ -s "$scratch/table" ] || echo "$source: no option found"
        diff "$scratch/page" "$scratch/table" >"$scratch/difference" ||
            echo "$page: other options than in the table of $source: $(grep '^[<>]' "$scratch/difference" | tr '\n' ' ')"
        [ "$source" = bench/main.c ] || # its --help is made of the table
            diff "$scratch/help" "$scratch/table" >"$scratch/difference" ||
            echo "$source: other options in --help than in the table: $(grep '^[<>]' "$scratch/difference" | tr '\n' ' ')"
    done
}

# ---- the format --------------------------------------------------------------------------------

# Every line of bytes that the document shows is one of a golden log.
shown_bytes()
{
    grep -E '^[0-9a-f]{5}   ' docs/format.md >"$scratch/shown"
    [ -s "$scratch/shown" ] || echo "docs/format.md: no line of bytes found"
    cat test/golden/*.hex | sort -u >"$scratch/golden"
    sort -u "$scratch/shown" | comm -23 - "$scratch/golden" | sed 's/$/: in docs\/format.md, but in no golden log/'
}

# ---- README.md ---------------------------------------------------------------------------------

# Its two commands. That ./dev has each word that a document names is test/tidy.sh's to see.
commands_of_readme()
{
    for word in demo test; do
        grep -q "^    \./dev $word " README.md || echo "README.md: no line with ./dev $word"
    done
}

# ---- versions ------------------------------------------------------------------------------------

# That of the header is the one of all packages.
versions()
{
    version=$(sed -n 's/^#define TWINLOG_VERSION "\(.*\)"/\1/p' include/twinlog.h)
    grep -q "^__version__ = \"$version\"" bindings/python/twinlog/__init__.py || echo "bindings/python: not version $version"
    head -n 1 packaging/debian/changelog | grep -q "^twinlog ($version-" || echo "packaging/debian/changelog: not version $version"
    for crate in twinlog twinlog-sys; do
        grep -q "^version = \"$version\"" "bindings/rust/$crate/Cargo.toml" || echo "bindings/rust/$crate: not version $version"
    done
    grep -q "bindings/go v$version\$" bindings/go/raft/go.mod ||
        echo "bindings/go/raft: wants another version of the binding than $version"
    grep -q "bindings/go/raft v$version\$" bindings/go/raft/bench/go.mod ||
        echo "bindings/go/raft/bench: wants another version of raft than $version"
    grep -q "^\*\*Status:\*\* $version" README.md || echo "README.md: the status is that of another version than $version"
    grep -q "^## \[$version\]" CHANGELOG.md || echo "CHANGELOG.md: no section for $version"
    oldest=$(sed -n 's/.*SKIP bindings-rust: there is no rustc \([0-9.]*\)".*/\1/p' bindings/rust/test.sh)
    for crate in twinlog twinlog-sys; do
        grep -qx "rust-version = \"$oldest\"" bindings/rust/$crate/Cargo.toml ||
            echo "bindings/rust/$crate: another rust-version than test.sh asks for, $oldest"
    done
    grep -q "twinlog-sys.*version = \"$version\"" bindings/rust/twinlog/Cargo.toml ||
        echo "bindings/rust/twinlog: wants another version of twinlog-sys than $version"
}

# ---- names to choose -----------------------------------------------------------------------------

# CONTRIBUTING.md lists where the names stand that a person has to choose: each file, or a folder that it is in.
# shellcheck disable=SC2016 # the backticks are those of the documents
names_to_choose()
{
    sed -n '/^### Names and addresses/,$p' CONTRIBUTING.md | grep -oE '`[^` ]+`' | tr -d '`' >"$scratch/listed"
    tree_files | grep -vxE 'CONTRIBUTING\.md|test/docs/docs\.sh' | xargs grep -lsE 'example\.org|The twinlog authors' >"$scratch/named"
    while read -r file; do
        above=$file
        while ! grep -qxF -e "$above" -e "$above/" "$scratch/listed"; do
            [ "$above" != . ] || { echo "$file: CONTRIBUTING.md does not list it under names and addresses"; break; }
            above=$(dirname "$above")
        done
    done <"$scratch/named"
}

# ---- the tutorial ------------------------------------------------------------------------------

# Each piece of C that it shows is one of the three programs.
tutorial()
{
    awk 'FILENAME != "docs/tutorial.md" { program = program $0 "\n"; next }
         /^```c$/ { block = ""; inside = 1; next }
         /^```$/ && inside { inside = 0; blocks++
                             if (!index(program, block)) print "docs/tutorial.md:" FNR ": not in the program:\n" block }
         inside { block = block $0 "\n" }
         END { if (!blocks) print "docs/tutorial.md: no C found" }' docs/examples/kvstore.c docs/examples/snapshot.c docs/examples/follow.c docs/tutorial.md
}

# ---- the pictures ------------------------------------------------------------------------------

picture()
{
    command -v python3 >/dev/null || return 0
    python3 docs/overview.py | cmp -s - docs/overview.svg || echo "docs/overview.svg is not what docs/overview.py draws"
}

# Each contender of a picture has a colour, a shape and words of its own in bench/contenders.gp.
contenders()
{
    known=$(sed -n '/^known = /,/^array/p' bench/contenders.gp | grep -oE '"[^"]*"' | tr -d '"')
    drawn=$(awk -F, '!/^series,/ && !/^seek/ { print $2 }' bench/figures/durable.csv bench/figures/sizes.csv \
        bench/figures/shared.csv bench/figures/sink.csv bench/figures/reading.csv | sort -u)
    for contender in $drawn; do
        case " $(echo "$known" | tr '\n' ' ') " in
        *" $contender "*) ;;
        *) echo "bench/contenders.gp does not know $contender, which a picture has" ;;
        esac
    done
    words=$(echo "$known" | wc -w)
    for list in colours shapes titles; do
        length=$(sed -n "/^array known_$list = /,/\]/p" bench/contenders.gp | sed '1d' | grep -oE '0x[0-9a-f]{6}|"[^"]*"|\b[0-9]+\b' | wc -l)
        [ "$length" = "$words" ] || echo "bench/contenders.gp: known has $words words, known_$list $length"
    done
}

# ---- links -------------------------------------------------------------------------------------

# Reads Markdown, without its fenced blocks.
# shellcheck disable=SC2016 # awk's
prose='FNR == 1 { is_fenced = 0 }
       !is_fenced && /^```/ { is_fenced = 1; next }
       is_fenced { if ($0 == "```") is_fenced = 0; next }'

# anchors FILE...: FILE#ANCHOR for each heading, as GitHub makes them.
anchors()
{
    LC_ALL=C awk "$prose"'
        sub(/^#+ /, "") { text = tolower($0); gsub(/[^a-z0-9_ -]/, "", text); gsub(/ /, "-", text); print FILENAME "#" text }' "$@"
}

# FILE TARGET for every link that does not lead out of the tree.
# shellcheck disable=SC2035 # no name of ours begins with a dash
links()
{
    awk "$prose"'
        { while (match($0, /\]\([^)]+\)/)) {
              target = substr($0, RSTART + 2, RLENGTH - 3)
              if (target !~ /^https:/) print FILENAME, target
              $0 = substr($0, RSTART + RLENGTH)
          } }' *.md docs/*.md bench/*.md bindings/*.md bindings/*/*.md bindings/*/*/*.md packaging/*.md packaging/*/*.md
}

# there: of the files that links lead to, those that exist, and the headings of documents.
there()
{
    cut -d ' ' -f 1 "$scratch/targets" | sort -u | while read -r path; do
        if [ -e "$path" ]; then echo "$path"; fi
    done >"$scratch/files"
    cat "$scratch/files"
    # shellcheck disable=SC2046 # one argument for each file
    anchors $(grep '\.md$' "$scratch/files")
}

dead_links()
{
    links >"$scratch/links"
    awk '{ path = $2
           sub(/#.*/, "", path)
           folder = $1
           if (!sub(/[^\/]*$/, "", folder)) folder = ""
           print (path == "" ? $1 : folder path), $1, $2 }' "$scratch/links" >"$scratch/targets"
    there >"$scratch/there"
    awk 'NR == FNR { there[$0]; next }
         !($1 in there) { print $2 ": " $3 " is not there"; next }
         { anchor = $3 }
         sub(/^[^#]*#/, "#", anchor) && !(($1 anchor) in there) { print $2 ": " $3 " has no such heading" }' \
        "$scratch/there" "$scratch/targets"
}

# A document that is installed links to nothing that is not: the test install looks at what is there, this at the tree.
links_to_what_is_not_installed()
{
    grep -E '^([A-Z]+\.md|docs/[^ ]+|bench/README\.md) ' "$scratch/links" | grep -v '^docs/experiments\.md ' |
        grep -v '[ /]bindings/' |
        grep -E '[ /](experiments\.md|(man|src|test|tools|raft|powercut|cmake)/)'
}

# ---- names of the code ---------------------------------------------------------------------------

# The functions of the library and the files that a document names are there.
# shellcheck disable=SC2016 # the backticks are those of the documents
dead_names()
{
    tree_files >"$scratch/files"
    sed 's,^,/,' "$scratch/files" >"$scratch/paths"
    grep '^src/' "$scratch/files" | xargs cat >"$scratch/code"
    grep '\.md$' "$scratch/files" | xargs grep -noE '`(twl_[a-z_0-9]+\(\)|[a-z_0-9/]+\.([ch]|sh|py))`' |
        tr -d '`()' >"$scratch/names"
    [ -s "$scratch/names" ] || echo "no name of the code found in the documents"
    while IFS=: read -r file line name; do
        case $name in
            twl_*) grep -qwF "$name" "$scratch/code" ;;
            *) grep -q "/$name\$" "$scratch/paths" ;;
        esac || echo "$file:$line: $name is not there"
    done <"$scratch/names"
}

report "manual pages" "$(mandoc -T lint -W warning man/*.[137] bench/*.1 powercut/*.1 raft/*.3 2>&1)"
report "options and their pages" "$(options)"
report "functions and their pages" "$(functions)"
report "constants and fields" "$(words)"
report "references between pages" "$(cross_references)"
report "pages in the Debian package" "$(packaged)"
report "the program in twinlog(7)" "$(program)"
report "the examples in section 3" "$(examples)"
report "bytes in docs/format.md" "$(shown_bytes)"
if command -v python3 >/dev/null; then
    report "errors of the headers on the pages" "$(test/docs/errors.py 2>&1)"
    report "figures of README.md, docs/planning.md and docs/performance.md" "$(bench/quote.py 2>&1)"
else
    echo "SKIP docs, figures and errors: there is no python3"
fi
report "the two commands of README.md" "$(commands_of_readme)"
report "versions of the packages" "$(versions)"
report "names to choose" "$(names_to_choose)"
report "the program of docs/tutorial.md" "$(tutorial)"
report "the picture" "$(picture)"
report "the colours of the pictures" "$(contenders)"
report "links" "$(dead_links)"
report "links to what is not installed" "$(links_to_what_is_not_installed)"
report "names of the code in documents" "$(dead_names)"
[ "$failures" = 0 ] && echo "docs: nothing to complain about"
exit "$((failures > 0))"
