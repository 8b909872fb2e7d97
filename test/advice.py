#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""advice.py: lists each advice in the messages of the sources, and the tests that follow it.

A test follows an advice when it brings the message about, does what the message says, and looks whether the trouble is
gone. It names the advice with `advises FILE 'WORDS'` (test/cli/checks.sh) or ADVISES(TEXT, "WORDS") (test/unit/advises.h,
raft/test/unit.c): that checks that the message has these words, and the lines behind it do what they say. That they do is
for a reader to see: the mark alone is enough here.

Fails where no test follows an advice, and where the words of a test are in no message, or in several.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ["src/**/*.[ch]", "tools/*.[ch]", "tools/archive/*.[ch]", "tools/stream/*.[ch]", "raft/*.[ch]"]
TESTS = ["test/**/*.sh", "test/unit/*.c", "raft/test/*.c"]

# An advice begins with one of these verbs, at the start of a text or behind one of . ; : , ( there. At the start of a text
# it must have a capital, because "open the log" may go on with "cannot". An advice with another verb is not found: a verb
# is to be added with its message.
VERBS = (
    "append|ask|attach|begin|call|check|chmod|choose|close|configure|copy|create|do|enable|end|export|find|free|give|go|"
    "import|keep|leave|let|look|make|mount|move|name|open|provide|put|raise|read|receive|remove|rename|repair|repeat|restore|"
    "run|save|say|see|seek|send|set|start|stop|trim|try|use|wait|write"
)
ADVICE = re.compile(
    rf"(?:^(?=(?-i:[A-Z]))|(?<=[.;:,(]) ?)(?:or |and |then |else |first )*(?:{VERBS})\b(?=[ .]|$)"
    r"|['`]twinlog [a-z]+|\bmust (?:not )?exist\b|\bmust have\b",
    re.IGNORECASE,
)
END = re.compile(r"[.;:](?= |$)|$")

# The help of a command, and the sentence about it in the list of commands: they answer no trouble.
HELP = re.compile(r"static const char (about|notes)\[\] =|static const struct option_row |#define \w+_HELP\b|const struct command ")

COMMENT_OR_TEXT = re.compile(
    r"""/\*.*?\*/|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"(?:\s*(?:\w+\s*)?"(?:[^"\\\n]|\\.)*")*""", re.DOTALL
)
PIECE = re.compile(r'"((?:[^"\\\n]|\\.)*)"')

QUOTED = re.compile(r"""'([^'\n]*)'|"([^"\n]*)\"""")
SHELL_MARK = re.compile(r"""^ *advises \S+((?: '[^'\n]*'| "[^"\n]*")+)$""", re.MULTILINE)
C_MARK = re.compile(r'\bADVISES\([^;"]*("(?:[^"\\]|\\.)*")\)')
SHELL_FUNCTION = re.compile(r"^(\w+)\(\)$", re.MULTILINE)
C_FUNCTION = re.compile(r"^(?:(?:WAYS_)?TEST(?:_LOOP|_EACH|_RANGE)?\(|CASE\((?=\w)|static [^=\n]*?\b)(\w+)[(),]", re.MULTILINE)
LOOSE_SHELL_MARK = re.compile(r"^\s*advises ", re.MULTILINE)
LOOSE_C_MARK = re.compile(r"^\s+ADVISES\(", re.MULTILINE)

# Words of the advices that no test can follow, and why.
NO_NEWER_TWINLOG = "no test has a newer twinlog; unit/test_damaged.c and unit/test_golden.c show that the log is left as it was for it"
NOT_FOLLOWED = [
    ("was written by a newer twinlog; use that version to read the log", NO_NEWER_TWINLOG),
    ("was written by a newer twinlog; use that version to read it", NO_NEWER_TWINLOG),
    ("Use a newer twinlog.", NO_NEWER_TWINLOG),
    ("Do not count on this storage to survive a power cut.", "there is nothing that a test could do"),
    ("All bytes are in it. The next 'twinlog sink' with this file truncates it.", "it asks for nothing"),
    ("was the newest one; restore them from a copy", "a reader must look in the moment in which they are gone"),
    (", see its messages", "they are on the same standard error"),
    ("Records were removed faster than they were copied: try again.", "the log must outrun many attempts in a row"),
    ("must have hard links, and the files be this user's.", "every file system of the tests has them"),
    ("No more processes can share it: wait until one of them has closed it.", "256 processes are too many for a test"),
    ("make it, with one partition", "the mock cluster makes each topic that is asked for"),
    ("raise it in the credentials and for the topic", "topics of the mock cluster have no limit to raise"),
    ("start nats-server with -js, or enable it for the account", "the server of the tests has one account"),
    ("raise the limit of the server or the account", "it takes a store that is used up"),
]


class Advice:
    """A part of a message that says what to do: from `start` to `end` of its text."""

    def __init__(self, place, text, start, end):
        self.place, self.text, self.start, self.end = place, text, start, end
        self.tests = []
        self.excuse = None

    def words(self):
        return self.text[self.start : self.end].strip()

    def is_named_by(self, words):
        """By words of which all are in the text, and the last ones in this part of it."""
        ends = [self.text.find(piece) + len(piece) for piece in words if piece in self.text]
        return len(ends) == len(words) and ends[-1] > self.start and ends[-1] - len(words[-1]) < self.end


def files(patterns):
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def texts(code):
    """Each text of a C file, adjoining ones in one, and what is before it, back to an empty line."""
    for found in COMMENT_OR_TEXT.finditer(code):
        if found.group().startswith('"'):
            before = code[: found.start()].rpartition("\n\n")[2]
            yield before, "".join(PIECE.findall(found.group()))


def advices_of(place, text):
    """What follows on an advice up to the end of its part of the sentence belongs to it, other verbs, too."""
    if len(text.split()) <= 2:
        return  # a word, or a name
    end = 0
    for found in ADVICE.finditer(text):
        if found.start() >= end:
            end = END.search(text, found.end()).end()
            yield Advice(place, text, found.start(), end)


def find_advices():
    for path in files(SOURCES):
        place = str(path.relative_to(ROOT))
        for before, text in texts(path.read_text()):
            if not HELP.match(before) and "Usage: " not in text and "Exit status: " not in text:
                yield from advices_of(place, text)


def find_marks():
    """Each mark of a test: where it is, and its words."""
    for path in files(TESTS):
        code = path.read_text()
        is_shell = path.suffix == ".sh"
        marks = list((SHELL_MARK if is_shell else C_MARK).finditer(code))
        count = len((LOOSE_SHELL_MARK if is_shell else LOOSE_C_MARK).findall(code))
        if count != len(marks):
            sys.exit(f"{path.relative_to(ROOT)}: {count - len(marks)} marks are not in the form that is read here")
        for found in marks:
            functions = (SHELL_FUNCTION if is_shell else C_FUNCTION).findall(code, 0, found.start())
            place = f"{path.relative_to(ROOT)} {functions[-1] if functions else ''}".strip()
            yield place, [single or double for single, double in QUOTED.findall(found.group(1))]


def named_by(advices, words):
    named = [advice for advice in advices if advice.is_named_by(words)]
    # A text that is a part of another one, too, can only be named by all of it.
    return [advice for advice in named if words == [advice.text]] or named


def follow(advices, place, words):
    """Adds the test to the advices that it names, of one text. Says what is wrong with its words."""
    named = named_by(advices, words)
    if not named:
        yield f"{place}: no advice has the words {words}"
    elif len({advice.text for advice in named}) > 1:
        yield f"{place}: more than one message has the words {words}"
    for advice in named:
        advice.tests.append(place)


def excuse(advices):
    for words, reason in NOT_FOLLOWED:
        named = named_by(advices, [words])
        if not named:
            yield f"NOT_FOLLOWED: no advice has the words '{words}'"
        for advice in named:
            advice.excuse = reason


def judge(advice):
    if not advice.tests and not advice.excuse:
        yield f"{advice.place}: no test follows '{advice.words()}' of '{advice.text}'"
    elif advice.tests and advice.excuse:
        yield f"{advice.place}: a test follows '{advice.words()}': take it out of NOT_FOLLOWED"


def main():
    advices = list(find_advices())
    complaints = [complaint for place, words in find_marks() for complaint in follow(advices, place, words)]
    complaints += excuse(advices)
    for advice in advices:
        print(f"{advice.place}: {advice.words()}")
        for test in advice.tests:
            print(f"    {test}")
        if advice.excuse:
            print(f"    not followed: {advice.excuse}")
        complaints += judge(advice)
    if not advices:
        complaints.append("no advice was found")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
