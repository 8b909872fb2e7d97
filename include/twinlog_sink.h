/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog's sink: a plain file, without a log.
 *
 * A sink is one plain file, of bytes and nothing else, that threads and processes append to. No
 * frames, no LSNs, no checksums. There are two kinds; a file has one kind at a time.
 *
 * An exact sink, the default, is for files that other programs read: tail, grep, rsyslog,
 * fail2ban, rsync. Each write is one writev() at the end of the file, so the file has the written
 * bytes and no others at every moment, also after kill -9. Other programs may append to it, and
 * make it shorter; the next write goes to the end that it then has. On a network file system the
 * kernel does not keep the writes of two machines apart. Nothing is beside the file.
 *
 * A full disk, a quota or a limit may cut a write short. What it left is taken back at once if no
 * other sink has the file; a line that another program appends in that very instant is cut off with
 * it. Beside other sinks it stays, and is never completed. The next write of the sink, at first the
 * same call once more, begins with a newline that ends it, and has all of its own bytes behind that
 * in one piece. So the beginning of a write that returned 0 may also stand before
 * it, cut off; of a write with several lines these may be whole ones. Until the newline has room,
 * others that do not look at the end (sinks without TWINLOG_SINK_LINES, other programs) put their
 * bytes directly behind the cut line. If another one ends it in the same instant, the newline leaves
 * an empty line. Bytes that are no lines get such a newline, too. A sink that is closed, or goes on
 * in another file, writes it alone.
 * In the same way a kill -9 in the middle of a large write leaves its beginning; sinks with
 * TWINLOG_SINK_LINES then begin with a newline.
 *
 * A mapped sink (TWINLOG_SINK_MAPPED), the other kind, is as fast as memory: a write is copied into
 * a mapping of the file. It ends in zeros while it is open, which most programs that read logs do
 * not bear: use twinlog_sink_end(), or twinlog sink --follow. The rest of this text, up to the
 * functions, is about mapped sinks, but for what a crash costs.
 *
 * What a crash costs. The end of a process, by kill -9 too, costs nothing that twinlog_sink_write()
 * had returned for. A crash of the kernel or a power cut costs what was not synced:
 * twinlog_sink_sync(), or flush_interval_ms, says how much that is; the rest may be there in part,
 * in any order, with zeros in between. What must survive the power belongs in a log.
 *
 * While a sink is open its file is larger than what was written, and ends in zeros:
 * twinlog_sink_end() returns where the bytes end. The last process to close it truncates the file
 * to the exact byte. After a kill -9 of all, the next process to open it does. After a crash of the
 * system the file ends where the last sync did, if only zeros follow that. Otherwise the
 * end of the file is not known, and opening returns -EUCLEAN without TWINLOG_SINK_DROP_ZEROS. The
 * same holds for any file that ends in a zero, unless a mapped sink has written that zero, and no
 * exact one has opened the file since: if it is data, let another program append a byte that is
 * none.
 *
 * No other program may change the file while it is open. It must not be made shorter, so
 * logrotate's copytruncate is not for it; and what other programs append to it is lost.
 *
 * A sink opens the file that its path names, and one beside it, `.twinlog.INODE.sink`, which its
 * processes share, and which says what was synced; it touches no other. That one stays if the last
 * byte of the file, or of what was synced, is a zero, until an exact sink opens the file; after a
 * sync has failed; and when the file was removed after all processes were killed.
 *
 * Each sink has a thread. It makes the file longer ahead of the writes, syncs at intervals, looks
 * after processes that have died and after renamed files.
 *
 * Results are 0, a count, or a negative error, as in <twinlog.h>, which has the TWINLOG_E codes and
 * twinlog_strerror().
 */
#ifndef TWINLOG_SINK_H
#define TWINLOG_SINK_H

#include <twinlog.h>

#ifdef __cplusplus
extern "C" {
#endif

struct twinlog_sink;

enum twinlog_sink_flags {
    /* Several processes may have it open, all with this flag; 256 of a mapped sink. Without it one
     * process has. */
    TWINLOG_SINK_SHARED = 1u << 0,
    /* If the file ends in zeros, and it is not known whether they are data (-EUCLEAN): they are
     * not. What was synced stays in any case. */
    TWINLOG_SINK_DROP_ZEROS = 1u << 1,
    /* A mapped sink: see above. Without it the sink is exact. All sinks of one file have the same
     * kind. */
    TWINLOG_SINK_MAPPED = 1u << 2,
    /* Each write has whole lines. Not with TWINLOG_SINK_MAPPED (-EINVAL). A line that somebody has
     * left without its end, as a kill -9 in the middle of a large write does, gets a newline first:
     * no line is continued by another one. Sinks with this flag take turns; beside one that is
     * stopped in its turn the others wait a second, once in ten. It costs four system calls a write,
     * and some more beside others that write. */
    TWINLOG_SINK_LINES = 1u << 3
};

struct twinlog_sink_options {
    uint32_t size;  /* set by TWINLOG_SINK_OPTIONS_INIT */
    uint32_t flags; /* enum twinlog_sink_flags */
    /* Of a mapped file; -EINVAL without TWINLOG_SINK_MAPPED, if one of the two is not 0. Its size at
     * the beginning; it then doubles ahead of need, by growth_bytes at a time at most. Rounded up to
     * pages. Defaults 10 MiB and 64 MiB; at the beginning max_bytes at most. */
    uint64_t initial_bytes;
    uint64_t growth_bytes;
    /* A write that would make the file larger than this goes to a new file: NAME becomes NAME.1,
     * that NAME.2, and so on; of these `keep_files` are kept, default 5. 0 = no limit. A larger
     * write has a file of its own. Those with larger numbers are removed, up to the first number
     * without a file. NAME is missing for an instant meanwhile, in which another process may make
     * it and have it.
     *
     * A mapped sink: not for a shared one. There another program renames the file, and each process
     * calls twinlog_sink_reopen(). -EBUSY of a write: another sink, of either kind, has had one of
     * the files open for 5 seconds. -EMEDIUMTYPE: an exact sink has made NAME in that instant. -EAGAIN:
     * the writes are faster than the disk, and 64 old files have waited for their syncs for 5
     * seconds. Other errors: the system does not say whether a sink has one of the files, or a
     * directory has such a name. Nothing happened, and the same write may work later.
     *
     * An exact sink: of a shared one, one process renames the file, and the others follow, within
     * 200 ms if they write nothing. A file is then larger by what they wrote meanwhile, and grows on
     * while another process still has NAME.1, as one that is stopped: no write waits for that. If the
     * next file cannot be made, the sink writes on to the present one, and tries again after a
     * second: twinlog_sink_rotation_error(). The file keeps its name then; only where the file system
     * has no files without a name (O_TMPFILE) it may be NAME.1 already, as that of a mapped sink. The
     * next file has the same owner: only that user and root rotate (else -EPERM). */
    uint64_t max_bytes;
    uint32_t keep_files; /* at most 9999 */
    /* Sync at least so often; 0 = only on demand. twinlog_sink_sync_error() tells if that fails. */
    uint32_t flush_interval_ms;
};
#define TWINLOG_SINK_OPTIONS_INIT twinlog_initial(twinlog_sink_options)

/* Opens the plain file `path` for appending, and makes it where there is none, with the permissions
 * 0666 less the umask; or, where a rotation was ended by a kill and has left NAME.1 alone, with the
 * owner, the permissions and the ACL of that, unless another user may have made it. A symbolic link
 * stays as it is: NAME is what it leads to, also where there is no file yet; but then -EACCES if
 * another user has made the link where all may make files (with the sticky bit). The bytes of
 * the file stay, and what is written comes after them. `options` may be NULL: an exact sink, which one
 * process has. In a shared mapped sink the growth_bytes of the first process that has it open count
 * for all; the other options count for each process.
 *
 *   -EBUSY     others have it open, and one of them, or this call, without TWINLOG_SINK_SHARED; or
 *              they opened it by a name in another directory (a hard link), or the file that they
 *              share was removed; or a process has been opening or closing it, or another program
 *              has had a lock on it, for 5 seconds
 *   -EMEDIUMTYPE  others have it open as a sink of the other kind
 *   -EUSERS    256 have it open (mapped sinks)
 *   -EINVAL    an option is out of range, or of the other kind of sink: TWINLOG_SINK_LINES or, in a
 *              shared sink, max_bytes with TWINLOG_SINK_MAPPED, initial_bytes or growth_bytes without
 *              it; or a NULL argument
 *   -ENOTSUP   not a regular file; or, of a mapped sink, a file system that cannot share mappings or
 *              reserve space; a file that the call has made stays, empty
 *   -EUCLEAN   the file ends in zeros, and it is not known whether they are data: after a crash of
 *              the system, or because the file beside it is gone
 *   -EPERM     of a mapped sink: the file is another user's (it is of one user, and root is another
 *              user: run as the owner); or the file beside it is another user's, may be written by
 *              others, or has a second name: look at it, and remove it. Of an exact one: a mapped sink
 *              of the file's owner was killed, and only the owner can finish the file; or it ends in
 *              zeros, and what is beside it is another user's: look at it, and remove it
 *   -ENAMETOOLONG  also where max_bytes is set and the name has no room for the number keep_files
 *   TWINLOG_EVERSION  processes of another version of the library have it open
 *   -ENOENT (also of an empty path), -EACCES (also of a directory that cannot be read), -ENOSPC,
 *   -EROFS, -EMFILE, -ENOMEM, ... from the system */
int twinlog_sink_open(const char *path, const struct twinlog_sink_options *options,
                      struct twinlog_sink **ret_sink);

/* Appends `size` bytes in one piece: other writes come before it or after it. Returns when
 * they are in the file for every process to see, and survive the end of this one. Any thread. In a
 * mapped sink it takes no lock, and allocates nothing; in an exact one threads write one after the
 * other, and a write of more than 1,024 pieces, or behind one that was cut short, is copied into
 * one piece first. `ret_offset` may be NULL; it gets the place in the file, which may be another
 * file than before if max_bytes is set. Of 0 bytes nothing is written.
 *
 *   -ENOSPC, -EDQUOT, -EFBIG  the file cannot be made large enough; nothing happened, but that an
 *                             exact sink beside others may leave a part: see above. The same call
 *                             works again when there is room. (A full disk is met here, never as
 *                             SIGBUS; an unchanged limit never as SIGXFSZ.) -ENOSPC also where the
 *                             file system takes only a part, twice.
 *   -EMSGSIZE  larger than 1 GiB
 *   -EINVAL    a NULL where none may be
 *   an error of the system with `ret_offset` (an exact sink): it does not say where the bytes are
 *   -EIO       a mapped sink: another program has made the file shorter, or the disk could not be
 *              read, or had no room where it had promised some (a full btrfs); the sink is of no use
 *              any more. An exact one: the device has failed; a later write may work
 *   -ENOMEM    an exact sink, for a write that is to be copied first
 *   TWINLOG_EFORKED  a child has to open the sink itself */
int twinlog_sink_write(struct twinlog_sink *sink, const void *data, size_t size,
                       uint64_t *ret_offset);
int twinlog_sink_writev(struct twinlog_sink *sink, const struct iovec *pieces, int count,
                        uint64_t *ret_offset);

/* Returns when everything that any process had written before the call is on stable storage; of
 * files that were rotated away, in those that this sink has not left yet. A shared sink goes on in
 * the next file first, if there is one, with the errors of opening it. Old files that cannot be
 * synced for now, as the system refuses it or a process is stopped, wait for another try, but 16 at
 * most: of more the oldest are left, and then no sync succeeds with this handle.
 *
 * An exact sink: after a sync has failed, none succeeds with this handle. Old files that have been
 * removed are not synced.
 *
 * A mapped sink: where another process has died in the middle of a write, its bytes are made
 * harmless first: they become spaces, and the last one a newline. Where one is stopped in the
 * middle of a write or a sync, this waits until that process continues. After a sync has failed,
 * none succeeds for this file until the system starts again, whatever processes open it. The same
 * holds after a process was killed in the middle of a sync, also one of flush_interval_ms: it may
 * have taken an error with it. The next file is not concerned.
 *
 *   -EBUSY  for 5 seconds another program's lock has kept a dead process from being looked after */
int twinlog_sink_sync(struct twinlog_sink *sink);

/* For logrotate, and for a program that has renamed the file itself: if `path` names another file
 * by now, or none, goes on in that one, or makes it; the old file is truncated to its exact bytes
 * when all processes have left it. The sink's thread looks five times a second. Returns 1 if so, 0
 * if the file is the same. The path is resolved again, with its directories and links; where the
 * process may not search a directory of it, or has another root directory by now (chroot()), the
 * sink stays in that of the present file. A new file gets the owner, the permissions and the ACL of
 * the old one; until it has them only the owner may open it. -EPERM: another user has made that
 * one; the sink stays where it is. -ENOENT: the directory is gone. -EAGAIN: 64 old files wait for
 * their syncs. */
int twinlog_sink_reopen(struct twinlog_sink *sink);

/* Begins a new file now, as max_bytes does, with keep_files; of an exact sink. Only if the present
 * file has bytes and was made before that time (nanoseconds since 1970): so of several processes
 * that call this one does it. The kernel gives files the time of its last tick, so that one that
 * was made in the 10 ms after that time may count as made before. One that was made while the clock
 * was ahead, at a time that is still to come, counts as made when it was written last, or at the
 * first call where that is still to come as well. Returns 1 if the sink is in another file now, 0 if
 * not. -ENOTSUP: a mapped sink. -EBUSY: another sink has had one of the files for half a second.
 * -EAGAIN: for so long 64 old files have waited for their syncs. The other errors are those of making
 * the file; the sink then stays in the present one. */
int twinlog_sink_rotate(struct twinlog_sink *sink, int64_t made_before_ns);

/* Why the sink is not in the file that its path names, or could not begin the next one for
 * max_bytes; 0 = neither. Writes return 0 meanwhile, and go to the file that the sink has, which may
 * have another name by now, and be compressed or removed under that one. So a program that writes
 * for long asks now and then, and says so; this makes no system call.
 *
 * Where the path leads to another file that the sink cannot open, or to none that it can make, the
 * error is that of twinlog_sink_reopen(). That call has met it, or the sink's thread at two looks;
 * the thread goes on trying five times a second. A rotation for max_bytes is tried again each second
 * (an exact sink; a mapped one returns its error from the write).
 *
 *   -EBUSY   another sink has one of the files; of a shared sink, for a second by now
 *   -EPERM   the file is another user's, see max_bytes; of a shared sink, for a second by now
 *   -EAGAIN  for a second now 64 old files wait for their syncs, which are slower than the rotations
 *   -EINVAL  NULL
 *   TWINLOG_EFORKED  in a forked child */
int twinlog_sink_rotation_error(const struct twinlog_sink *sink);

/* The error of the last sync that flush_interval_ms has made; 0 = none. Writes return 0 meanwhile. If
 * twinlog_sink_sync() returns it as well, no sync succeeds with this handle: what was written since
 * the last one that did is not known to be on stable storage. A sync that waits for another process,
 * or for twinlog_sink_sync() itself, changes nothing here. -EINVAL: NULL. In a forked child:
 * TWINLOG_EFORKED. */
int twinlog_sink_sync_error(const struct twinlog_sink *sink);

/* Waits for calls that are inside, leaves the file, truncates it to its exact bytes if no other
 * process has it open, and frees the sink. Does not sync. The error, if any, is that of truncating
 * it; -EBUSY: somebody is opening or closing the file for 5 seconds, and the next opening truncates
 * it. NULL is allowed. In a forked child: TWINLOG_EFORKED.
 *
 * If all processes are killed before they have left a renamed file, that is truncated by opening it
 * by its new name and closing it; no other call touches it. Do so in the directory where it was
 * written, and before the system is started again; afterwards its end may not be known. */
int twinlog_sink_close(struct twinlog_sink *sink);

/* Where the written bytes of the file end, for a program that only reads it; from any process.
 * Below that all bytes are there; after it come zeros, and lines that are being written. -EUCLEAN:
 * not known; *ret_end is then the offset after the last byte that is not zero. */
int twinlog_sink_end(const char *path, uint64_t *ret_end);

/* The same for an open file, whatever name it has by now. `fd` is open for reading; the caller has
 * read the bytes up to `from`. 1: processes have the file open, and more bytes may come. 0: no
 * process has it open: these are all bytes, until one opens it again. -ENOTSUP: not a regular file.
 *
 * A user other than the owner is told by the file and its locks alone. While processes have it
 * open it ends for that user in front of the first zero byte from `from` on, because a line may be
 * on its way there. */
int twinlog_sink_end_of(int fd, uint64_t from, uint64_t *ret_end);

#ifdef __cplusplus
}
#endif

#endif
