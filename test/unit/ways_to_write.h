/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to write durably, with buffered and with direct files, for the suites io and io_refused. */
#ifndef TEST_UNIT_WAYS_TO_WRITE_H
#define TEST_UNIT_WAYS_TO_WRITE_H

#include "base/base.h"
#include "base/libc.h"
#include "forbid.h"
#include "io/io_files.h"
#include "logdir.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#define BUFFER_BYTES (16u * BLOCK_BYTES)
#define FILE_BYTES (16u * BLOCK_BYTES)

struct way {
    const char *name;
    bool is_uring;
    bool has_separate_barrier;
};

extern const struct way ways[4];

#define WAYS ((int)(sizeof(ways) / sizeof(ways[0])))
#define COMBINATIONS (2 * WAYS) /* each way with buffered, then with direct files */

extern const struct way *way;
extern unsigned kind; /* flags of every open: 0 or IO_DIRECT */
extern char directory[256];
extern struct io *io;
extern unsigned char *buffer; /* registered with `io` */

void skip(const char *test, const char *why);
bool has_direct_files(void);
void make_directory(void);
void remove_directory(void);
int create_way(const char *path, struct io **ret_io);
void create_io(void);
void destroy_io(void);
bool choose(int combination, const char *test);
/* A test over every combination; `io` is open on an empty directory. */
#define IO_TEST(name)                                                                                        \
    static void name##_in(int _i);                                                                           \
    TEST_LOOP(name, COMBINATIONS)                                                                            \
    {                                                                                                        \
        if (!choose(_i, #name))                                                                              \
            return;                                                                                          \
        create_io();                                                                                         \
        name##_in(_i);                                                                                       \
        destroy_io();                                                                                        \
    }                                                                                                        \
    static void name##_in(int _i CK_ATTRIBUTE_UNUSED)
struct io_file *open_file(const char *name, unsigned flags);
struct io_file *create_file(const char *name);
const char *path_of(const char *name);
/* Not through the code under test. */
void fill_file(const char *name, size_t bytes, int value);
void expect_bytes(const char *name, uint64_t offset, size_t size, int value);
struct io_write write_of(struct io_file *file, const unsigned char *data, size_t size, uint64_t offset);
void write_and_reap(struct io_write *write);
void expect_full(const struct io_write *write);
void write_durably(struct io_file *file, uint64_t offset, int value);

/* A ring inherited from the parent would still be the parent's. */
int create_io_in_child(void);

extern volatile sig_atomic_t signals;

void count_signal(int number);

#define RAGGED_BYTES (BLOCK_BYTES + 904)

/* For every way to allocate: a new file with `size` bytes of 'k', made longer. */
int allocate_in_every_way(size_t size);
void expect_size(const char *name, size_t size, bool is_reserved);
/* No part of the file is a hole or reserved only; where the file system tells. */
void expect_written(const char *name, const char *test);

extern int pipe_ends[2];

/* The kernel stores into the page for us: EFAULT instead of a signal. */
bool is_writable(void *page);

#endif
