/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of files as the bytes that a fuzzer changes: whatever they are, they mean something.
 *
 *     input  = options (8) | items
 *     file   = 'f' | name (1) | size (4)                  zeros, until something is put there
 *     extent = 'x' | offset (4) | size (2) | bytes        of the file before; what is behind its end is left out
 *
 * Any other byte between two items is passed over, so that a byte more or less spoils little. Integers are little
 * endian. A file that is named twice goes on where it was.
 */
#ifndef TWL_FUZZ_CONTAINER_H
#define TWL_FUZZ_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTAINER_OPTION_BYTES 8u
#define CONTAINER_FILES 8u
#define CONTAINER_EXTENTS 256u
#define CONTAINER_FILE_BYTES (256u * 1024) /* largest file */
#define CONTAINER_NAME_BYTES 32u

enum container_name {
    NAME_STATE,
    NAME_STATE_NEW,
    NAME_LOCK,
    NAME_TEMPORARY,
    NAME_LAST_SEGMENT, /* of the largest number there is */
    NAME_OTHER,
    NAME_FIRST_SEGMENT = 8, /* of number 1, and so on */
};

struct extent {
    unsigned file;
    uint32_t offset;
    size_t size;
    size_t at; /* of its bytes in the input */
};

struct packed_file {
    unsigned name; /* enum container_name */
    uint32_t size;
    unsigned char *bytes; /* all of them */
};

struct container {
    unsigned char options[CONTAINER_OPTION_BYTES];
    unsigned files, extents;
    struct packed_file file[CONTAINER_FILES];
    struct extent extent[CONTAINER_EXTENTS];
};

/* False if that is too short to mean anything. */
bool container_unpack(const unsigned char *data, size_t size, struct container *ret_container);
void container_free(struct container *container);

/* Puts the bytes of the files back to where they came from in `data`. */
void container_put_back(const struct container *container, unsigned char *data);

void container_file_name(const struct packed_file *file, char ret_name[CONTAINER_NAME_BYTES]);
bool container_is_state(const struct packed_file *file);

#endif
