#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# strict.sh: where a compiler's warning is an error. Read in (with .) by the scripts that compile.
#
# A warning never fails the build of somebody else: the next compiler has warnings that nobody has seen. So it is an error
# only where .ci/run says so, with TWINLOG_CI, and only of the versions that are named here; elsewhere it is shown.

# is_strict COMPILER
is_strict()
{
    [ -n "${TWINLOG_CI:-}" ] || return 1
    case ${1##*/}-$("$1" -dumpversion 2>/dev/null) in
    *clang-14* | *clang++-14* | *gcc-12* | *g++-12* | cc-12*) return 0 ;;
    *) return 1 ;;
    esac
}

# werror COMPILER: prints the option, or nothing.
werror() { ! is_strict "$1" || echo -Werror; }
