#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws mutants of the library by chance, and asks the quick suites whether they notice.

A mutant is one place of a file of src/ with a small fault: a call is removed, two statements are swapped, a number or a
comparison is off by one, a memory order is relaxed, or a condition is inverted. The files are drawn by their lines of code,
the fault by chance among those that fit. Each mutant is built in a copy of the tree, by itself, and the suites that cover
its layer are run one after the other until one fails. The same seed draws the same mutants of the same tree.

What is made stays in build/random: the copy, its build, the results (SEED.tsv), and a patch for each mutant that survived
(SEED-NUMBER.patch). A run that was interrupted goes on where it stopped. A survivor is a fault that no test would notice,
or no fault: a person has to tell.
"""
import argparse
import difflib
import os
import random
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
HOME = os.path.join(ROOT, 'build', 'random')
TREE = os.path.join(HOME, 'tree')
BUILD = os.path.join(HOME, 'build')
LONGEST = 600  # seconds, of a suite without a mutant
LEAST = 40     # seconds, of one with a mutant
PATIENCE = 5   # times as long with one, beside other work; it hangs after that

# Suites of each layer, those that notice most first.
SUITES = {
    'base': 'unit-base unit-commit unit-terms unit-gauge unit-process unit-watch sim-crash interleave-two unit-sink unit-reader',
    'check': 'unit-verdict unit-discarded damage-random unit-repair unit-damaged unit-copy damage-bits-few damage-sectors '
             'unit-evidence unit-on_disk unit-golden unit-search',
    'commit': 'unit-commit unit-ways unit-requests unit-terms unit-many sim-crash interleave-two '
              'unit-watch unit-close unit-roll',
    'control': 'unit-state_crash unit-state unit-names unit-watch unit-reader_live sim-crash unit-shared',
    'format': 'unit-format unit-segment_iter unit-golden unit-state unit-damaged unit-hostile unit-mapped sim-crash unit-verdict',
    'io': 'unit-io unit-io_refused unit-uring unit-commit unit-mapped_faults unit-fallback sim-crash unit-sink unit-process',
    'keeper': 'sim-crash sim-crash-mapped unit-recover unit-evidence unit-space unit-commit unit-roll unit-damaged',
    'log': 'unit-space unit-terms unit-evidence unit-names unit-consumer sim-crash unit-copy unit-watch unit-recover '
           'unit-mapped_faults unit-shared unit-open_group unit-lookup unit-process unit-hostile unit-close unit-read_snapshot',
    'mapped': 'unit-open_group crash-mapped-few crash-shared-few sim-crash-mapped unit-mapped '
              'unit-mapped_faults unit-shared unit-shared_deaths unit-shared_refusals unit-close',
    'open': 'unit-fallback unit-integration unit-process unit-modes unit-hostile unit-history unit-copy unit-close',
    'read': 'unit-reader unit-reader_live unit-reader_faults unit-lookup unit-consumer unit-damaged sim-crash unit-names',
    'recover': 'unit-recover unit-evidence unit-segment_iter unit-open_group unit-note sim-crash sim-crash-mapped unit-search '
               'unit-discarded unit-damaged',
    'segment': 'unit-index unit-roll unit-space unit-golden unit-recover unit-reader sim-crash sim-crash-mapped unit-verdict '
               'unit-damaged unit-mapped',
    'set': 'unit-verdict unit-recover unit-evidence unit-reader unit-damaged sim-crash unit-discarded unit-on_disk unit-names',
    'sink': 'unit-sink unit-sink_left crash-sink-few unit-close',
    'walk': 'unit-segment_iter unit-search unit-note unit-damaged unit-discarded unit-reader unit-lookup unit-recover sim-crash',
}
# What a suite runs beside its own program.
ALSO = {'unit-verdict': 'twinlog_command', 'unit-discarded': 'twinlog_command'}

# ---- drawing -----------------------------------------------------------------------------------------------------

STATEMENT = re.compile(r'^\s+[^{}#]*;\s*$')
NO_STATEMENT = re.compile(r'^\s*(return|break|continue|goto|case|default|else|if|for|while|do|const|static|struct|enum|'
                          r'unsigned|int|bool|u?int\d+_t|size_t|char|void|ASSERT|PROBE_)\b|PROBE_|ASSERT|^\s*/?\*')
CALL = re.compile(r'^(\s+)(\(void\))?[a-z_][\w>.-]*\(.*\);\s*$')
IF = re.compile(r'\b(if|while) \((?=.)')
HEAD = re.compile(r'^\s*(?:\} )?(if|for|while|else|do)\b')


def is_balanced(text):
    return text.count('(') == text.count(')')


def is_statement(lines, at):
    """A whole one on a line of its own, that is not all of an if or a loop."""
    line = lines[at]
    before = lines[at - 1].rstrip()
    return (STATEMENT.match(line) and is_balanced(line) and not NO_STATEMENT.search(line) and
            (before.endswith((';', '{', '}', '*/')) or not before))


def remove_call(lines, at, _rng):
    line = lines[at]
    if not CALL.match(line) or not is_balanced(line) or re.search('PROBE_|ASSERT', line):
        return None
    return {at: re.match(r'\s+', line).group() + ';\n'}


def swap_statements(lines, at, _rng):
    if at + 1 >= len(lines) or not is_statement(lines, at) or not is_statement(lines, at + 1):
        return None
    indent = [len(l) - len(l.lstrip()) for l in lines[at:at + 2]]
    return {at: lines[at + 1], at + 1: lines[at]} if indent[0] == indent[1] and lines[at] != lines[at + 1] else None


def one_of(line, rng, pattern, change):
    """Changes one of the matches outside of strings and comments."""
    code = re.sub(r'"[^"]*"|/\*.*', lambda m: ' ' * len(m.group()), line)
    found = list(re.finditer(pattern, code))
    if not found:
        return None
    match = rng.choice(found)
    return line[:match.start()] + change(match.group()) + line[match.end():]


def off_by_one(lines, at, rng):
    others = {' < ': ' <= ', ' <= ': ' < ', ' > ': ' >= ', ' >= ': ' > ', ' + 1': '', ' - 1': ''}
    if re.search(r'ASSERT|PROBE_', lines[at]):
        return None
    changed = one_of(lines[at], rng, r' [<>]=? | [+-] 1\b', others.get)
    return {at: changed} if changed else None


def relax_order(lines, at, rng):
    changed = one_of(lines[at], rng, r'memory_order_(acquire|release|acq_rel|seq_cst)', lambda _: 'memory_order_relaxed')
    if not changed:
        changed = one_of(lines[at], rng, r'\batomic_(load|store)\((?=[^()]*\))',
                         lambda m: m.replace('(', '_RELAXED('))
        if changed:  # atomic_load(x) becomes atomic_load_explicit(x, relaxed)
            changed = re.sub(r'atomic_(load|store)_RELAXED\(([^()]*)\)',
                             r'atomic_\1_explicit(\2, memory_order_relaxed)', changed)
    return {at: changed} if changed else None


def invert_condition(lines, at, rng):
    line = lines[at]
    if re.search(r'ASSERT|PROBE_', line):
        return None
    match = IF.search(line)
    if match and rng.randrange(3):
        depth, start = 1, match.end()
        for end in range(start, len(line)):
            depth += {'(': 1, ')': -1}.get(line[end], 0)
            if depth == 0:
                return {at: '%s!(%s)%s' % (line[:start], line[start:end], line[end:])}
    changed = one_of(line, rng, r' (&&|\|\|) | [!=]= ', {' && ': ' || ', ' || ': ' && ', ' == ': ' != ', ' != ': ' == '}.get)
    return {at: changed} if changed else None


KINDS = {'call removed': remove_call, 'statements swapped': swap_statements, 'off by one': off_by_one,
         'order relaxed': relax_order, 'condition inverted': invert_condition}


def code_lines(lines):
    """Indices of lines inside of functions, without comments."""
    is_comment = is_inside = False
    for at, line in enumerate(lines):
        if line.startswith('{'):
            is_inside = True
        elif line.startswith('}'):
            is_inside = False
        begins = '/*' in line
        if is_inside and not is_comment and not line.lstrip().startswith('/*') and line.strip() not in ('', '{', '}'):
            yield at
        is_comment = (is_comment or begins) and '*/' not in line[line.find('/*') if begins else 0:]


def sources(layers):
    for layer in layers:
        for name in sorted(os.listdir(os.path.join(ROOT, 'src', layer))):
            if name.endswith('.c'):
                path = os.path.join('src', layer, name)
                with open(os.path.join(ROOT, path)) as file:
                    lines = file.readlines()
                for at in code_lines(lines):
                    yield layer, path, lines, at


def draw(seed, number, places):
    """Another one if the last did not compile: an endless list, the same for the same seed and number."""
    rng = random.Random('%s/%d' % (seed, number))
    kind = rng.choice(sorted(KINDS))
    while True:
        layer, path, lines, at = rng.choice(places)
        changed = KINDS[kind](lines, at, rng)
        if changed:
            yield layer, path, kind, at, [changed.get(i, line) for i, line in enumerate(lines)], lines


# ---- trying ------------------------------------------------------------------------------------------------------

def run(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)


def copy_tree():
    """What git knows of. Files that are the same keep their times, so that nothing is built twice."""
    listed = subprocess.run(['git', '-C', ROOT, 'ls-files', '-z'], stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in filter(None, listed.split('\0')):
        source, to = os.path.join(ROOT, name), os.path.join(TREE, name)
        if not os.path.isfile(source):
            continue
        if os.path.isfile(to) and open(source, 'rb').read() == open(to, 'rb').read():
            continue
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(source, to)


def prepare():
    """Returns the program of each suite."""
    copy_tree()
    made = run(['cmake', '-S', TREE, '-B', BUILD, '-G', 'Ninja', '-DCMAKE_BUILD_TYPE=RelWithDebInfo', '-DCMAKE_C_FLAGS=-w'])
    if made.returncode:
        sys.exit(made.stdout)
    with open(os.path.join(BUILD, 'test', 'CTestTestfile.cmake')) as file:
        programs = dict(re.findall(r'add_test\(\[=\[(.*?)\]=\] "%s/(test/[^"/]*)"' % BUILD, file.read()))
    missing = set(' '.join(SUITES.values()).split()) - set(programs)
    if missing:
        sys.exit('there are no such suites: %s' % ' '.join(missing))
    return programs


def try_without_mutant(suites, programs, seconds):
    """How long each suite takes goes to `seconds`; ends if one fails."""
    new = [suite for suite in suites if suite not in seconds]
    if new and build(targets(suites, programs)):
        sys.exit('the library does not build')
    for suite in new:
        began = time.time()
        if run_suite(suite, LONGEST) != 'passes':
            sys.exit('%s fails without a mutant' % suite)
        seconds[suite] = time.time() - began


def targets(suites, programs):
    return {programs[suite] for suite in suites} | {ALSO[suite] for suite in suites if suite in ALSO}


def build(what):
    return run(['ninja', '-C', BUILD] + sorted(what)).returncode


def children(parent):
    """Of the process, and theirs."""
    pids = subprocess.run(['pgrep', '-P', str(parent)], stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    return [pid for pid in pids] + [child for pid in pids for child in children(pid)]


def run_suite(suite, limit):
    """'passes', 'fails' or 'hangs'. No test at all would pass, too."""
    command = ['ctest', '--test-dir', BUILD, '-R', '^%s$' % suite, '--no-tests=error']
    with open(os.devnull, 'w') as nowhere, subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as ctest:
        try:
            return 'fails' if ctest.wait(limit) else 'passes'
        except subprocess.TimeoutExpired:
            for pid in children(ctest.pid) + [ctest.pid]:  # one that is left would go on
                subprocess.run(['kill', '-9', str(pid)], stderr=nowhere, check=False)
            return 'hangs'


def judge(layer, path, lines, programs, seconds):
    """The suite that has noticed; '' if none has; None if it does not compile."""
    suites = SUITES[layer].split()
    try_without_mutant(suites, programs, seconds)
    with open(os.path.join(TREE, path), 'w') as file:
        file.writelines(lines)
    try:
        if build(targets(suites, programs)):
            return None
        for suite in suites:
            result = run_suite(suite, LEAST + PATIENCE * seconds[suite])
            if result != 'passes':
                return suite if result == 'fails' else '%s, which %s' % (suite, result)
        return ''
    finally:
        shutil.copy(os.path.join(ROOT, path), os.path.join(TREE, path))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--random', type=int, default=20, metavar='N', help='so many mutants (20)')
    parser.add_argument('--seed', default='1', help='what they are drawn by (1)')
    parser.add_argument('--layer', choices=sorted(SUITES), action='append', help='only of this folder of src/; may be repeated')
    options = parser.parse_args()
    layers = options.layer or sorted(SUITES)
    os.makedirs(HOME, exist_ok=True)
    results = os.path.join(HOME, '%s.tsv' % '-'.join([options.seed] + (options.layer or [])))
    done = [line.rstrip('\n').split('\t') for line in open(results)] if os.path.exists(results) else []
    if len(done) < options.random:
        programs, seconds = prepare(), {}
        places = list(sources(layers))
    for number in range(len(done), options.random):
        began = time.time()
        for layer, path, kind, at, lines, before in draw(options.seed, number, places):
            noticed = judge(layer, path, lines, programs, seconds)
            if noticed is not None:
                break
        row = [str(number + 1), noticed or 'SURVIVED', '%d' % (time.time() - began), kind, '%s:%d' % (path, at + 1),
               before[at].strip()]
        if not noticed:
            with open('%s-%d.patch' % (results[:-4], number + 1), 'w') as file:
                file.writelines(difflib.unified_diff(before, lines, 'a/' + path, 'b/' + path))
        with open(results, 'a') as file:
            file.write('\t'.join(row) + '\n')
        done.append(row)
        print('%4d of %d: %s' % (number + 1, options.random, '  '.join(row[1:])), flush=True)
    survivors = [row for row in done if row[1] == 'SURVIVED']
    print('\n%d mutants of seed %s, %d noticed, %d survived (%s)' %
          (len(done), options.seed, len(done) - len(survivors), len(survivors), results))
    for row in survivors:
        print('%4s  %-20s %-32s %s' % (row[0], row[3], row[4], row[5]))


if __name__ == '__main__':
    main()
