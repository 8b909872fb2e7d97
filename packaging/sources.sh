# SPDX-License-Identifier: Apache-2.0
# sources.sh: what dist.sh and deb.sh have in common. They read it in (with .) in the top folder of the tree.
# shellcheck shell=sh disable=SC2034 # its readers use the variables
version=$(sed -n 's/^#define TWINLOG_VERSION "\(.*\)"/\1/p' include/twinlog.h)

# copy_sources FOLDER: the files of the last commit. What else lies in the tree is not in them, and neither are changes that
# are not committed. An unpacked tarball has no commits; it is copied without what builds and tests leave.
copy_sources()
{
    mkdir -p "$1"
    if [ -e .git ]; then
        git archive --format=tar HEAD >"$1.tar"
    else
        tar --exclude=./build --exclude=__pycache__ --exclude='*.egg-info' --exclude=./bindings/rust/target -cf "$1.tar" .
    fi
    tar -C "$1" -xf "$1.tar"
    rm "$1.tar"
}

# The date of what is made of them: the last commit's.
if [ -e .git ]; then
    [ -z "$(git status --porcelain)" ] || echo "note: there are changes that are not committed, and they are left out" >&2
    : "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat -c %Y include/twinlog.h)}
