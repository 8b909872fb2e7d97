#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""errors.py: each error that a public header lists for a call is in ERRORS of its page, or of a page named there.

A header lists an error at the beginning of a line of the comment in front of the call:

     *   -EBUSY, -EAGAIN  a reason
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ERROR = r"(?:-E[A-Z0-9]+|TWINLOG_E[A-Z]+)"
ENTRY = re.compile(rf"^ \* {{2,}}({ERROR}(?:,? {ERROR})*)(?:  |,? *$|,? \.\.\.)", re.MULTILINE)


def listed_errors(header):
    """Of each function, the errors in the comment in front of it, which may be for several functions."""
    listed = {}
    comment = ""
    for part in re.finditer(r"/\*(.*?)\*/|\b(twinlog_[a-z_]+)\([^;{}]*\);|^struct [a-z_]* \{|^enum [a-z_]* \{", header, re.DOTALL | re.MULTILINE):
        if part[1] is not None:
            comment = part[1]
        elif part[2] is not None:
            entries = ENTRY.findall(comment)
            listed.setdefault(part[2], set()).update(*(re.findall(ERROR, entry) for entry in entries))
        else:
            comment = ""
    return listed


def section(page, heading):
    found = re.search(rf"^\.Sh {heading}$(.*?)(?=^\.Sh |\Z)", page, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def errors_of(page):
    """Those that its section ERRORS has, and the pages that it names."""
    text = section(page, "ERRORS")
    errors = {"-" + name for name in re.findall(r"\bEr (E[A-Z0-9]+)", text)}
    errors |= set(re.findall(r"\bTWINLOG_E[A-Z]+", text))
    return errors, re.findall(r"^\.Xr (twinlog_?\w*) 3", text, re.MULTILINE)


def complaints(headers, pages):
    errors = {name: errors_of(text) for name, text in pages.items()}
    page_of = {}
    for name, text in pages.items():
        for function in re.findall(r"^\.Nm (twinlog_\w+)", section(text, "NAME"), re.MULTILINE):
            page_of[function] = name

    for header in headers:
        for function, listed in listed_errors(header).items():
            name = page_of.get(function)
            if name is None:
                continue  # the test docs complains of that
            own, others = errors[name]
            known = own.union(*(errors[other][0] for other in others if other in errors))
            for error in sorted(listed - known):
                yield f"man/{name}.3: ERRORS has no {error}, which a header lists for {function}()"


CANARY_HEADER = """
/* Closes it.
 *
 *   -EBUSY   it has readers
 *   -ESTALE, TWINLOG_ECORRUPT  two more
 */
int twinlog_close(struct twinlog *log);
"""
CANARY_PAGES = {
    "twinlog_close": ".Sh NAME\n.Nm twinlog_close\n.Sh ERRORS\n.It Fl Ns Er EBUSY\nAnd those of\n.Xr twinlog_open 3 .\n",
    "twinlog_open": ".Sh NAME\n.Nm twinlog_open\n.Sh ERRORS\n.It Dv TWINLOG_ECORRUPT\n.Sh SEE ALSO\n.Er ESTALE\n",
}


def main():
    canary = list(complaints([CANARY_HEADER], CANARY_PAGES))
    if canary != ["man/twinlog_close.3: ERRORS has no -ESTALE, which a header lists for twinlog_close()"]:
        sys.exit(f"errors.py does not see what is missing: {canary}")
    headers = [path.read_text() for path in sorted((ROOT / "include").glob("*.h"))]
    pages = {path.stem: path.read_text() for path in sorted((ROOT / "man").glob("*.3"))}
    if sum(len(listed) for header in headers for listed in listed_errors(header).values()) < 100:
        sys.exit("errors.py found no lists of errors in the public headers")
    print(*complaints(headers, pages), sep="\n", end="")


main()
