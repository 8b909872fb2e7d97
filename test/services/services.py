#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real programs around `twinlog sink`: those that read its file, and services that write to it.

usage: services.py TWINLOG [--quick | NAME...]

Each reader of a file gets what it would get of `cat >>FILE`: 500 lines are there when it starts, 500 come while it
reads, then the writer ends and another one writes 500 more. All of them must arrive, and none twice. A program that is
not installed is a named skip. --quick: those that need no service.
"""
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

TWINLOG = os.path.abspath(sys.argv[1])
LIMIT_S = 30  # for anything that is waited for
LINES = 500
PHASES = 'abc'


class Skip(Exception):
    """What is tried is not on this machine."""


def need(program):
    path = shutil.which(program, path=os.environ['PATH'] + ':/usr/sbin:/usr/lib/cgi-bin')
    if not path:
        raise Skip(f'{program} is not installed')
    return path


def need_root():
    if os.getuid() != 0:
        raise Skip('only root may do this')


def wait_until(what, is_so):
    end = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end, f'not in {LIMIT_S} s: {what}'
        time.sleep(0.02)


def read(path):
    try:
        with open(path, 'rb') as file:
            return file.read()
    except FileNotFoundError:
        return b''


def write(path, text):
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)


def run(*words, **more):
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=LIMIT_S, **more).stdout


class Process:
    """In a session of its own, which ends with the block."""

    def __init__(self, *words, **more):
        self.words, self.more = words, more

    def __enter__(self):
        self.process = subprocess.Popen(self.words, start_new_session=True, **self.more)
        return self.process

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Writer:
    """twinlog sink FILE, with a pipe to write to."""

    def __init__(self, path='log', *options):
        self.process = subprocess.Popen([TWINLOG, 'sink', path, *options], stdin=subprocess.PIPE)

    def write(self, line):
        self.process.stdin.write(line.encode() + b'\n')
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(LIMIT_S) == 0, 'the sink failed'


def line_of(phase, number):
    return f'{phase}-{number}-end'


def write_phase(writer, phase, line=line_of):
    for number in range(LINES):
        writer.write(line(phase, number))


def has_last(path, phase):
    return line_of(phase, LINES - 1).encode() in read(path)


def wait_for_file(path, phase):
    wait_until('the sink has written all lines', lambda: has_last(path, phase))


def expect_each_once(text, phases=PHASES):
    found = re.findall(rb'[a-z]-\d+-end', text)
    wanted = [line_of(phase, number).encode() for phase in phases for number in range(LINES)]
    assert sorted(found) == sorted(wanted), f'{len(set(found) & set(wanted))} of {len(wanted)} lines, {len(found)} in all'
    assert b'\0' not in text, 'there are NULs'


def three_phases(after_phase, start=lambda: None):
    """The life of a file: after_phase(phase) is called when its lines are in it."""
    writer = Writer()
    write_phase(writer, 'a')
    wait_for_file('log', 'a')
    start()
    after_phase('a')
    write_phase(writer, 'b')
    wait_for_file('log', 'b')
    after_phase('b')
    writer.end()
    writer = Writer()
    write_phase(writer, 'c')
    wait_for_file('log', 'c')
    after_phase('c')
    writer.end()


# ---- readers that follow a file ------------------------------------------------------------------

def follow_with(*words):
    """A reader that prints what it sees."""
    need(words[0])
    with open('seen', 'wb') as seen:
        reader = Process(*words, stdin=subprocess.DEVNULL, stdout=seen)
        try:
            three_phases(lambda phase: wait_until(f'it shows phase {phase}', lambda: has_last('seen', phase)),
                         reader.__enter__)
        finally:
            reader.__exit__()
    expect_each_once(read('seen'))


def test_tail():
    follow_with('tail', '-n', '+1', '-F', 'log')


def test_busybox_tail():
    follow_with('busybox', 'tail', '-n', '+1', '-F', 'log')


def test_tail_of_a_renamed_file():
    need('tail')
    writer = Writer()
    write_phase(writer, 'a')
    wait_for_file('log', 'a')
    with open('seen', 'wb') as seen, Process('tail', '-n', '+1', '-F', 'log', stdout=seen, stderr=subprocess.DEVNULL):
        wait_until('it shows phase a', lambda: has_last('seen', 'a'))
        os.rename('log', 'log.1')
        writer.process.send_signal(signal.SIGHUP)
        wait_until('the sink makes a new file', lambda: os.path.exists('log'))
        write_phase(writer, 'b')
        wait_until('it shows phase b', lambda: has_last('seen', 'b'))
        writer.end()
    expect_each_once(read('seen'), 'ab')


def test_less():
    """Its screen; the newest line must appear on it, and no NUL."""
    need('less')
    need('script')
    reader = Process('script', '-q', '-f', '-c', 'stty rows 24 cols 80; TERM=vt100 exec less +F log', 'seen', stdin=subprocess.PIPE,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        three_phases(lambda phase: wait_until(f'it shows phase {phase}', lambda: has_last('seen', phase)),
                     reader.__enter__)
    finally:
        reader.__exit__()
    assert b'^@' not in read('seen') and b'\0' not in read('seen'), 'it shows NULs'


# ---- readers that look at a file ------------------------------------------------------------------

def count_with(*words):
    need(words[0])
    seen = []

    def look(phase):
        wanted = LINES * (PHASES.index(phase) + 1)
        out = run(*words, 'end', 'log')
        seen.append((len(out.splitlines()), wanted))
        assert b'binary' not in out.lower(), out[:100]

    three_phases(look)
    assert all(got == wanted for got, wanted in seen), seen


def test_grep():
    count_with('grep')


def test_zgrep():
    count_with('zgrep')


def test_rsync():
    need('rsync')

    def look(_):
        run('rsync', '-a', 'log', 'copy')
        assert read('copy') == read('log'), 'the copy lacks something'

    three_phases(look)
    expect_each_once(read('copy'))


def test_tar():
    """Each incremental archive has the file, as it has changed."""
    need('tar')

    def look(phase):
        run('tar', '--create', '--listed-incremental=state', f'--file={phase}.tar', 'log')
        assert run('tar', '--extract', '--to-stdout', f'--file={phase}.tar', 'log') == read('log')

    three_phases(look)


def test_a_copy_of_a_live_file_can_be_restored():
    writer = Writer()
    write_phase(writer, 'a')
    wait_for_file('log', 'a')
    shutil.copy('log', 'copy')
    writer.end()
    os.rename('copy', 'log')
    writer = Writer()
    write_phase(writer, 'b')
    writer.end()
    expect_each_once(read('log'), 'ab')


# ---- services that read ---------------------------------------------------------------------------

def test_rsyslog_imfile():
    rsyslogd = need('rsyslogd')
    here = os.getcwd()
    os.mkdir('state')
    write('rsyslog.conf', f'''
global(workDirectory="{here}/state")
module(load="imfile")
template(name="plain" type="string" string="%rawmsg%\\n")
input(type="imfile" file="{here}/log" tag="t" ruleset="r" freshStartTail="off")
ruleset(name="r") {{ action(type="omfile" file="{here}/seen" template="plain") }}
''')
    reader = Process(rsyslogd, '-n', '-f', f'{here}/rsyslog.conf', '-i', f'{here}/pid', stderr=subprocess.DEVNULL)
    try:
        three_phases(lambda phase: wait_until(f'it has phase {phase}', lambda: has_last('seen', phase)),
                     reader.__enter__)
    finally:
        reader.__exit__()
    expect_each_once(read('seen'))


def fail2ban_config(backend):
    here = os.getcwd()
    for name in ('conf/filter.d', 'conf/action.d'):
        os.makedirs(name)
    write('conf/fail2ban.conf', f'''[Definition]
loglevel = INFO
logtarget = {here}/f2b.log
syslogsocket = auto
socket = {here}/sock
pidfile = {here}/pid
dbfile = None
dbpurgeage = 1d
dbmaxmatches = 10
''')
    write('conf/jail.conf', f'''[DEFAULT]
bantime = 600
findtime = 600
maxretry = 3
[t]
enabled = true
backend = {backend}
filter = t
action = t
logpath = {here}/log
''')
    write('conf/filter.d/t.conf', '[Definition]\nfailregex = ^bad <HOST>$\ndatepattern = {NONE}\n')
    write('conf/action.d/t.conf', f'[Definition]\nactionban = echo "<ip>." >>{here}/banned\n')


def attack(writer, address):
    for _ in range(4):
        writer.write(f'bad {address}')
    wait_until(f'{address} is banned', lambda: f'{address}.'.encode() in read('banned'))


def fail2ban(backend):
    server = need('fail2ban-server')
    fail2ban_config(backend)
    writer = Writer()
    write_phase(writer, 'a')
    wait_for_file('log', 'a')
    here = os.getcwd()
    with Process(server, '-f', '-c', f'{here}/conf', '-s', f'{here}/sock', '-p', f'{here}/pid', 'start',
                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait_until('it watches', lambda: b"Jail 't' started" in read('f2b.log'))
        attack(writer, '192.0.2.1')
        writer.end()
        writer = Writer()
        attack(writer, '192.0.2.2')
        os.rename('log', 'log.1')
        writer.process.send_signal(signal.SIGHUP)
        wait_until('the sink makes a new file', lambda: os.path.exists('log'))
        attack(writer, '192.0.2.3')
        writer.end()


def test_fail2ban_polling():
    fail2ban('polling')


def test_fail2ban_inotify():
    with open(need('fail2ban-server'), encoding='utf-8') as script:
        python = script.readline().removeprefix('#!').split()[0]  # others may have other modules
    if subprocess.run([python, '-c', 'import pyinotify'], check=False, stderr=subprocess.DEVNULL).returncode:
        raise Skip('python3-pyinotify is not installed')
    fail2ban('pyinotify')


def combined_line(phase, number):
    address = f'192.0.2.{number % 200}'
    return f'{address} - - [27/Nov/2026:02:25:33 +0000] "GET /{line_of(phase, number)} HTTP/1.1" 200 206 "-" "curl/7.88"'


def three_combined_phases(after_phase):
    writer = Writer()
    for phase in PHASES:
        write_phase(writer, phase, combined_line)
        wait_for_file('log', phase)
        after_phase(phase)
        if phase == 'b':
            writer.end()
            writer = Writer()
    writer.end()


def test_goaccess():
    goaccess = need('goaccess')
    os.mkdir('db')

    def look(phase):
        run(goaccess, 'log', '--log-format=COMBINED', '--persist', '--restore', '--db-path=db', '-o', 'out.json',
            '--no-global-config', stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        total = json.loads(read('out.json'))['general']['total_requests']
        assert total == LINES * (PHASES.index(phase) + 1), f'{total} requests after phase {phase}'

    three_combined_phases(look)


def test_awstats():
    awstats = need('awstats.pl')
    here = os.getcwd()
    os.mkdir('data')
    write('awstats.t.conf', f'LogFile="{here}/log"\nLogType=W\nLogFormat=1\nSiteDomain="t"\nDNSLookup=0\n'
          f'DirData="{here}/data"\nHostAliases="localhost"\nSkipHosts=""\n')
    total = 0

    def look(_):
        nonlocal total
        out = run(awstats, '-config=t', f'-configdir={here}', '-update', stderr=subprocess.DEVNULL).decode()
        total += int(re.search(r'Found (\d+) new qualified records', out).group(1))
        assert ' 0 corrupted' in out.replace('Found 0', ' 0'), out

    three_combined_phases(look)
    assert total == LINES * len(PHASES), f'{total} records'


# ---- services that write --------------------------------------------------------------------------

def apache_config(logger):
    here = os.getcwd()
    os.mkdir('htdocs')
    write('htdocs/index.html', 'hello\n')
    os.chmod('.', 0o755)
    write('httpd.conf', f'''ServerRoot /usr/lib/apache2
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule dir_module modules/mod_dir.so
ServerName localhost
Listen 127.0.0.1:{PORT}
DocumentRoot {here}/htdocs
PidFile {here}/pid
DefaultRuntimeDir {here}
ErrorLog {here}/error.log
User www-data
Group www-data
StartServers 2
ThreadsPerChild 25
MaxRequestWorkers 50
LogFormat "%h %t \\"%r\\" %>s" short
CustomLog "|{logger}" short
''')


PORT = 20000 + os.getpid() % 20000


def get(path='/index.html'):
    connection = http.client.HTTPConnection('127.0.0.1', PORT, timeout=LIMIT_S)
    connection.request('GET', path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status == 200


class Load:
    """Requests from four threads, counted."""

    def __init__(self):
        self.must_stop, self.counts = False, [0] * 4
        self.threads = [threading.Thread(target=self.request, args=(i,)) for i in range(4)]

    def request(self, index):
        while not self.must_stop:
            try:
                self.counts[index] += get()
            except OSError:
                pass

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def total(self):
        return sum(self.counts)

    def __exit__(self, *_):
        self.must_stop = True
        for thread in self.threads:
            thread.join()


class Apache:
    def __init__(self, logger):
        need_root()
        self.apache = need('apache2')
        if not os.path.isdir('/usr/lib/apache2/modules'):
            raise Skip('this apache2 is not laid out as Debian does it')
        apache_config(logger)

    def tell(self, word):
        run(self.apache, '-f', os.path.abspath('httpd.conf'), '-k', word, stderr=subprocess.DEVNULL)

    def answers(self):
        try:
            return get()
        except OSError:
            return False

    def __enter__(self):
        self.tell('start')
        self.pid = None
        wait_until('httpd has started', lambda: os.path.exists('pid') and read('pid').strip())
        self.pid = int(read('pid'))
        return self

    def restarts(self):
        return read('error.log').count(b'AH00493')

    def restart(self):
        before = self.restarts()
        self.tell('graceful')
        wait_until('httpd restarts', lambda: self.restarts() > before)

    def is_alive(self):
        return os.path.exists(f'/proc/{self.pid}')

    def __exit__(self, *_):
        if self.is_alive():
            self.tell('stop')
        wait_until('httpd has ended', lambda: not self.is_alive())


def count_lines():
    return read('log').count(b'GET ')


def expect_no_torn_line(path):
    for line in read(path).splitlines():
        assert re.fullmatch(rb'\S+ \[.*\] "GET .*" \d+', line), f'a torn line: {line}'


ASKED = itertools.count()


def expect_a_line_for_each_request():
    """Of fifty, each with a name of its own."""
    paths = [f'/index.html?{next(ASKED)}-end' for _ in range(50)]
    answered = [path.encode() for path in paths if get(path)]
    assert len(answered) == len(paths), 'httpd refuses requests'
    wait_until('their lines are there', lambda: all(read('log').count(path) == 1 for path in answered))


def test_httpd_restarts_gracefully():
    with Apache(f'{TWINLOG} sink {os.getcwd()}/log --shared') as apache:
        wait_until('httpd answers', apache.answers)
        wait_until('its first lines are there', lambda: count_lines() > 0)
        before = count_lines()
        with Load() as load:
            for restarts in range(1, 4):
                wait_until('requests come', lambda: load.total() >= 200 * restarts)
                apache.restart()
            wait_until('requests come', lambda: load.total() >= 800)
        wanted = load.total()
    wait_until(f'a line for each of {wanted} requests', lambda: count_lines() - before >= wanted)
    expect_no_torn_line('log')


def test_httpd_download_that_outlives_a_restart():
    with Apache(f'{TWINLOG} sink {os.getcwd()}/log --shared') as apache:
        wait_until('httpd answers', apache.answers)
        with open('htdocs/big', 'wb') as big:
            big.truncate(50_000_000)
        connection = http.client.HTTPConnection('127.0.0.1', PORT, timeout=LIMIT_S)
        connection.request('GET', '/big')
        response = connection.getresponse()
        response.read(1000)
        apache.restart()
        apache.restart()
        response.read()
        connection.close()
        wait_until('its line is there', lambda: b'GET /big' in read('log'))


def free_bytes(path):
    about = os.statvfs(path)
    return about.f_bavail * about.f_frsize


class SmallDisk:
    """A file system in memory with little space, at the folder `disk`."""

    def __enter__(self):
        os.mkdir('disk')
        run('mount', '-t', 'tmpfs', '-o', 'size=4m,mode=755', 'none', 'disk')
        return self

    def fill(self):
        with open('disk/filler', 'wb') as filler:
            while free_bytes('disk') > 0:
                filler.write(b'x' * 4096)
                filler.flush()

    def __exit__(self, *_):
        run('umount', '-l', 'disk')


def test_httpd_beside_a_full_disk():
    """The lines wait in the pipe, and then the requests do: each that was answered has its line in the end."""
    need_root()
    with SmallDisk() as disk, Apache(f'{TWINLOG} sink {os.getcwd()}/disk/log --shared') as apache:
        wait_until('httpd answers', apache.answers)
        with Load() as load:
            wait_until('requests come', lambda: load.total() >= 200)
            disk.fill()
            full = load.total()
            # more than fits into the last block of the file, and less than into the pipe
            wait_until('the logger has met the full disk', lambda: load.total() >= full + 200)
            os.remove('disk/filler')
            again = load.total()
            wait_until('requests come again', lambda: load.total() >= again + 200)
            wanted = load.total()
        wait_until(f'a line for each of {wanted} requests', lambda: read('disk/log').count(b'GET ') >= wanted)
        expect_no_torn_line('disk/log')


def loggers():
    """The processes that write the file `log` of this folder."""
    found = []
    for entry in filter(str.isdigit, os.listdir('/proc')):
        words = read(f'/proc/{entry}/cmdline').split(b'\0')
        if words[:2] == [TWINLOG.encode(), b'sink'] and f'{os.getcwd()}/log'.encode() in words:
            found.append(int(entry))
    return found


def test_httpd_starts_a_killed_logger_again():
    """What the killed one had read and not written is lost; all requests behind that have their lines, none is torn."""
    with Apache(f'{TWINLOG} sink {os.getcwd()}/log --shared') as apache:
        wait_until('httpd answers', apache.answers)
        for _ in range(3):
            wait_until('there is one logger', lambda: len(loggers()) == 1)
            killed = loggers()[0]
            os.kill(killed, signal.SIGKILL)
            wait_until('httpd starts another one', lambda: loggers() and killed not in loggers())
            wait_until('httpd answers', apache.answers)
            expect_a_line_for_each_request()
    expect_no_torn_line('log')


def test_httpd_and_logger_are_killed():
    """Whatever is killed, the file goes on, and no line of the next server continues one of the last."""
    for _ in range(3):
        with Apache(f'{TWINLOG} sink {os.getcwd()}/log --shared') as apache:
            wait_until('httpd answers', apache.answers)
            expect_a_line_for_each_request()
            children = run('pgrep', '-P', str(apache.pid)).split()
            for pid in [apache.pid, *map(int, children)]:
                os.kill(pid, signal.SIGKILL)
            wait_until('all have ended', lambda: not loggers())
        os.remove('pid')
        shutil.rmtree('htdocs')
    found = re.findall(rb'\?\d+-end', read('log'))
    assert len(found) == len(set(found)) == 150, f'{len(found)} lines, {len(set(found))} of them different'
    expect_no_torn_line('log')


def test_nginx_through_a_fifo():
    nginx = need('nginx')
    here = os.getcwd()
    os.chmod('.', 0o755)
    os.mkfifo('fifo')
    write('nginx.conf', f'''daemon off;
pid {here}/nginx.pid;
error_log {here}/error.log;
events {{ }}
http {{
    access_log {here}/fifo;
    client_body_temp_path {here}/t1; proxy_temp_path {here}/t2; fastcgi_temp_path {here}/t3;
    uwsgi_temp_path {here}/t4; scgi_temp_path {here}/t5;
    server {{ listen 127.0.0.1:{PORT}; location / {{ return 200 "hello"; }} }}
}}
''')
    with open('fifo', 'r+b', buffering=0) as fifo:
        sink = subprocess.Popen([TWINLOG, 'sink', 'log'], stdin=fifo)
        with Process(nginx, '-c', f'{here}/nginx.conf', '-p', here, stderr=subprocess.DEVNULL):
            wait_until('nginx answers', lambda: os.path.exists('nginx.pid') and Apache.answers(None))
            with Load() as load:
                wait_until('requests come', lambda: load.total() >= 1000)
            wait_until('there is a line for each', lambda: count_lines() > load.total())
        sink.send_signal(signal.SIGTERM)
        assert sink.wait(LIMIT_S) == -signal.SIGTERM


def test_rsyslog_omprog():
    """rsyslog gives each message to `twinlog append`, and keeps it until that says that it is durable."""
    rsyslogd = need('rsyslogd')
    here = os.getcwd()
    os.mkdir('state')
    write('source', ''.join(line_of('a', number) + '\n' for number in range(LINES)))
    write('rsyslog.conf', f'''
global(workDirectory="{here}/state")
module(load="imfile")
module(load="omprog")
template(name="plain" type="string" string="%rawmsg%\\n")
input(type="imfile" file="{here}/source" tag="t" ruleset="r" freshStartTail="off")
ruleset(name="r") {{
    action(type="omprog" binary="{TWINLOG} append {here}/log --confirm OK" template="plain" confirmMessages="on"
           action.resumeRetryCount="-1")
}}
''')
    with Process(rsyslogd, '-n', '-f', f'{here}/rsyslog.conf', '-i', f'{here}/pid', stderr=subprocess.DEVNULL):
        wait_until('the log has every message', lambda: os.path.isdir('log') and has_last_record())
    expect_each_once(run(TWINLOG, 'cat', 'log'), 'a')


def has_last_record():
    out = subprocess.run([TWINLOG, 'cat', 'log', '-n', '1'], check=False, capture_output=True).stdout
    return line_of('a', LINES - 1).encode() in out


STANZAS = {
    'signal': ['nocreate', 'postrotate', 'kill -HUP $SINK', 'endscript'],
    'create': ['create 0640 root root', 'postrotate', 'kill -HUP $SINK', 'endscript'],
    'nobody tells it': ['nocreate'],
    'compress at once': ['nocreate', 'compress', 'postrotate', 'kill -HUP $SINK', 'sleep 1', 'endscript'],
    'delaycompress': ['nocreate', 'compress', 'delaycompress', 'postrotate', 'kill -HUP $SINK', 'endscript'],
    'dateext': ['nocreate', 'dateext', 'dateformat .%s', 'postrotate', 'kill -HUP $SINK', 'endscript'],
}


def all_files():
    text = b''
    for name in sorted(os.listdir('.')):
        if name.startswith('log') and name != 'logrotate.conf':
            text += run('zcat', '-f', name)
    return text


def test_logrotate():
    logrotate = need('logrotate')
    need_root()
    os.umask(0o022)
    top = os.getcwd()
    for title, words in STANZAS.items():
        os.makedirs(f'{top}/{title}')
        os.chdir(f'{top}/{title}')
        writer = Writer()
        os.environ['SINK'] = str(writer.process.pid)
        write('logrotate.conf', f'"{os.getcwd()}/log" {{\nrotate 9\nmissingok\n' + '\n'.join(words) + '\n}\n')
        os.chmod('logrotate.conf', 0o644)
        for phase in PHASES:
            write_phase(writer, phase)
            wait_until(f'{title}: the lines are there', lambda: line_of(phase, LINES - 1).encode() in all_files())
            wait_until('a name with the second is free', lambda: not os.path.exists(f'log.{int(time.time())}'))
            run(logrotate, '-f', '-s', 'state', 'logrotate.conf')
        writer.end()
        expect_each_once(all_files())
        os.chdir(top)


# ---- systemd ----------------------------------------------------------------------------------------

# A system of its own: the files of this one, with what is written going to the folder "changes"; devices, processes and
# control groups of its own, and of this kernel nothing that can be set.
GROUP = r"""
set -e
mount --make-rprivate /
mount -t cgroup2 cgroup2 groups
mkdir "groups/$1"
echo $$ >"groups/$1/cgroup.procs"
shift
exec unshare --fork --kill-child --pid --mount --uts --ipc --cgroup --net "$@"
"""
BOOT = r"""
set -e
mount -t overlay overlay -o lowerdir=/,upperdir="$PWD/changes",workdir="$PWD/work" root
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/shm
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "dev/${device%:*}" c 1 "${device#*:}"
done
rm -rf etc/systemd/system/*.wants
mkdir -p usr/local/bin
cp "$1" usr/local/bin/twinlog
cp "$2"/twinlog-sink@.* etc/systemd/system
exec chroot . env -i container=twinlog PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --show-status=no
"""
REMOVE_GROUP = r"""
mount -t cgroup2 cgroup2 groups
find "groups/$1" -depth -type d -exec rmdir {} +
"""


class Machine:
    """With systemd as the first process, and the units of packaging/sink. It ends with this process, however that ends."""

    def __enter__(self):
        need_root()
        need('systemctl')
        need('setpriv')
        for name in 'changes', 'work', 'root', 'groups':
            os.mkdir(name)
        self.group = f'twinlog-services.{os.getpid()}'
        packaging = os.path.realpath(os.path.dirname(os.path.abspath(__file__)) + '/../../packaging/sink')
        with open('boot.txt', 'wb') as told:
            self.process = subprocess.Popen(
                [need('setpriv'), '--pdeathsig', 'KILL', need('unshare'), '--mount', 'sh', '-c', GROUP, 'group', self.group,
                 'sh', '-c', BOOT, 'boot', TWINLOG, packaging], stdout=told, stderr=told)
        try:
            self.wait_for_boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for_boot(self):
        end = time.monotonic() + LIMIT_S
        while not self.is_up():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Skip('systemd does not come up here: ' + read('boot.txt').decode().strip().split('\n')[-1])
            time.sleep(0.05)

    def __exit__(self, *_):
        first = self.first_process()
        self.process.kill()
        self.process.wait()
        wait_until('the last process of the machine is gone', lambda: not first or not os.path.exists(f'/proc/{first}'))
        subprocess.run([need('unshare'), '--mount', 'sh', '-c', REMOVE_GROUP, 'remove', self.group], check=False)

    def first_process(self):
        try:
            return read(f'/proc/{self.process.pid}/task/{self.process.pid}/children').decode().strip()
        except OSError:
            return ''

    def is_up(self):
        first = self.first_process()
        try:
            is_begun = first and read(f'/proc/{first}/comm') == b'systemd\n'
        except OSError:
            return False
        return is_begun and self.try_run('systemctl is-system-running').stdout.strip() in (b'running', b'degraded')

    def try_run(self, command):
        return subprocess.run(['nsenter', '-t', self.first_process(), '-m', '-p', '-u', '-i', '-r', '-w', 'sh', '-c', command],
                              check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S)

    def run(self, command):
        result = self.try_run(command)
        assert result.returncode == 0, f'{command}: {result.stdout.decode()}'
        return result.stdout

    def lines_of(self, phase):
        """Written in one piece, as `myprogram >FIFO` does."""
        self.run(f"seq -f '{phase}-%.0f-end' 0 {LINES - 1} >/run/twinlog-sink/web")

    def wait_for(self, phase, log='/var/log/twinlog-sink/web.log'):
        wait_until(f'the lines of {phase} are there',
                   lambda: line_of(phase, LINES - 1).encode() in self.try_run(f'cat {log}').stdout)


def test_systemd_socket():
    with Machine() as machine:
        # a program that wrote too early has made a plain file
        machine.run('mkdir /run/twinlog-sink && echo early >/run/twinlog-sink/web')
        machine.run('systemctl start twinlog-sink@web.socket')
        assert b'early' in machine.run('cat /run/twinlog-sink/web.unknown.*')
        machine.lines_of('a')
        machine.wait_for('a')
        machine.run('mv /var/log/twinlog-sink/web.log /var/log/twinlog-sink/web.log.1 && '
                    'systemctl reload twinlog-sink@web.service')
        machine.lines_of('b')
        machine.wait_for('b')
        # what is written while there is no process waits in the FIFO for the next one
        machine.run('systemctl kill -s KILL twinlog-sink@web.service')
        machine.lines_of('c')
        machine.wait_for('c')
        # stopping writes what waits, and the next line begins it again
        machine.lines_of('d')
        machine.run('systemctl stop twinlog-sink@web.service')
        machine.lines_of('e')
        machine.wait_for('e')
        expect_each_once(machine.run('cat /var/log/twinlog-sink/web.log.1 /var/log/twinlog-sink/web.log'), 'abcde')
        assert not machine.run('systemctl list-units --state=failed --plain --no-legend').strip()


def test_systemd_unit_that_writes():
    with Machine() as machine:
        machine.run("""printf '[Unit]\nRequires=twinlog-sink@web.socket\nAfter=twinlog-sink@web.socket twinlog-sink@web.service\n
[Service]\nType=oneshot\nExecStart=seq -f a-%%%%.0f-end 0 499\nStandardOutput=file:/run/twinlog-sink/web\n' \
    >/etc/systemd/system/writes.service && systemctl daemon-reload && systemctl start writes.service""")
        machine.wait_for('a')
        expect_each_once(machine.run('cat /var/log/twinlog-sink/web.log'), 'a')


def test_systemd_file_that_adm_reads():
    with Machine() as machine:
        unit = machine.run('cat /etc/systemd/system/twinlog-sink@.service').decode()
        form = re.findall(r'^#     (\[Service\]\n(?:#     .*\n)+)', unit, re.MULTILINE)[0].replace('#     ', '')
        machine.run('mkdir -p /etc/systemd/system/twinlog-sink@.service.d')
        machine.run(f"useradd -r syslog-writer && cat >/etc/systemd/system/twinlog-sink@.service.d/adm.conf <<'E'\n{form}E\n")
        machine.run('systemctl daemon-reload && systemctl start twinlog-sink@web.socket')
        machine.lines_of('a')
        machine.wait_for('a')
        assert machine.run('stat -c "%U %G %a" /var/log/twinlog-sink/web.log').split() == [b'syslog-writer', b'adm', b'640']
        assert machine.run('stat -c "%G %a" /var/log/twinlog-sink').split() == [b'adm', b'750']


QUICK = ['tail', 'busybox_tail', 'tail_of_a_renamed_file', 'less', 'grep', 'zgrep', 'rsync', 'tar',
         'a_copy_of_a_live_file_can_be_restored', 'goaccess', 'logrotate']


def main():
    tests = {name[5:]: test for name, test in globals().items() if name.startswith('test_')}
    names = sys.argv[2:]
    if names == ['--quick']:
        names = QUICK
    failed = 0
    top = tempfile.mkdtemp(prefix='twinlog-services.')
    os.chmod(top, 0o755)  # servers look as other users
    for name in names or tests:
        place = f'{top}/{name}'
        os.mkdir(place)
        os.chdir(place)
        begin = time.monotonic()
        try:
            tests[name]()
            print(f'{name}: fine ({time.monotonic() - begin:.1f} s)', flush=True)
        except Skip as why:
            print(f'skipped: {name}: {why}', flush=True)
        except (AssertionError, subprocess.SubprocessError) as why:
            print(f'FAILED: {name}: {why}', flush=True)
            failed += 1
    os.chdir('/')
    shutil.rmtree(top)
    sys.exit(failed > 0)


main()
