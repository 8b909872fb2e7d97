/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the simulated disk: its state, shared by simdisk.c, simdisk_image.c and simdisk_ops.c. */
#ifndef TWL_SIM_SIMDISK_STATE_H
#define TWL_SIM_SIMDISK_STATE_H

#include "base/base.h"
#include "content.h"
#include "simdisk.h"

#define NAME_BYTES 64u
#define EVICTION_OPS 64u /* one in so many operations takes a page away that is in the cache only */
#define CONTRARY_ONE_IN                                                                                      \
    4u /* group of a direct file goes through the page cache unasked, or past it although asked */
#define GHOST_OPS 60u /* a dead process's write lands within that many operations */

/* The bytes of one write, shared between a disk and the images of its killed processes. */
struct blob {
    unsigned owners;
    unsigned char bytes[];
};

/* What a file holds of a lock. */
enum sim_hold {
    HOLDS_NOTHING,
    HOLDS_SHARED,
    HOLDS_EXCLUSIVE
};

#define SIM_LOCKS 16u /* that of the writer, that of use, and those of the participants of a sink */

/* Something about one file that no sync has covered. */
struct change {
    uint64_t offset;
    size_t size;                    /* 0: the file's size only */
    struct blob *blob;              /* NULL: zeros */
    uint64_t grows_to;              /* 0: leaves the size of the file */
    bool is_direct;                 /* past the page cache */
    bool is_in_flight;              /* begun, and not done */
    bool is_ghost;                  /* in flight, and its process was killed */
    unsigned char holds[SIM_LOCKS]; /* while it is in flight: enum sim_hold of the file it was submitted to */
};

struct inode {
    struct content *durable, *view;
    struct content *behind; /* what the page cache hides: reads past it see this; NULL = the view */
    uint64_t durable_bytes, view_bytes;
    struct change *change; /* oldest first */
    size_t changes, change_room;

    struct {
        unsigned shared, exclusive; /* how many open files hold it, those of ghosts as well */
    } lock[SIM_LOCKS];

    void *page; /* shared between the processes that map it */
    size_t page_bytes;
    bool is_page_of_file; /* its bytes are those of the file (simdisk_pages.c); else it is memory */
    unsigned mappings;
};

struct entry {
    char name[NAME_BYTES];
    size_t inode;
};

struct directory {
    struct entry *entry;
    size_t entries, room;
};

struct simdisk {
    struct simdisk_options options;
    struct rng rng;
    int64_t clock_ns;
    struct inode **inode; /* NULL where an image did not need it */
    size_t inodes;
    struct directory durable, view;
    struct directory dir_change; /* oldest first; an empty name: unlinked */
    unsigned processes;
    bool is_split;      /* some file has bytes that are in the page cache only */
    uint64_t ghost_ops; /* until the writes of a killed process land; 0: there are none */

    simdisk_hook *hook;
    void *hook_context;
    bool is_in_hook;
    void (*turn)(void *context);
    void *turn_context;

    struct simdisk_fault fault;
    uint64_t fault_left; /* operations of the kind until it strikes; 0: none will */
    uint64_t faults;
    uint64_t count[SIM_OPS + 1];
    unsigned lies;
    const struct inode *headed; /* its header block was just written */

    struct {
        enum simdisk_op op;
        const struct inode *inode; /* NULL: none */
        char name[NAME_BYTES];
        uint64_t offset;
        size_t size;
        int error;
        char text[256];
    } last;
};

/* Somebody broke the rules of struct io_ops: says so and aborts. */
_Noreturn void sim_misuse(const char *what);
/* simdisk_sealed.c: before a write. */
void sim_check_sealed(const struct simdisk *disk, const struct inode *inode, const unsigned char *data,
                      size_t size, uint64_t offset);

/* ---- files ------------------------------------------------------------------------------------ */

struct inode *sim_inode_create(void);
void sim_allocate_page(struct inode *inode, size_t bytes);

struct blob *sim_blob_create(const unsigned char *bytes, size_t size); /* NULL: all zeros */
bool sim_blob_equals(const struct blob *blob, const unsigned char *bytes, size_t size);
struct change *sim_add_change(struct inode *inode, struct change change);
void sim_remove_change(struct inode *inode, size_t index);
struct change *sim_find_in_flight(struct inode *inode, bool is_ghost);
const unsigned char *sim_change_bytes(const struct change *change, size_t from); /* NULL: zeros */

/* Lets reads see a change, and its growth. */
void sim_show_change(struct inode *inode, struct change *change);

/* Pages of the cache go: from then on their bytes are those of the disk. */
void sim_drop_pages(struct inode *inode, uint64_t offset, uint64_t size);

/* A write that has the pages it goes to for itself; and one that may share them. */
void sim_add_write(struct inode *inode, const unsigned char *bytes, size_t size, uint64_t offset,
                   bool is_direct);
void sim_change_file(struct inode *inode, const unsigned char *bytes, size_t size, uint64_t offset,
                     bool is_direct);
void sim_grow_file(struct inode *inode, uint64_t bytes);
void sim_shorten_file(struct inode *inode, uint64_t bytes);

/* What a failed write leaves. */
void sim_change_some_sectors(struct simdisk *disk, struct inode *inode, const unsigned char *bytes,
                             size_t size, uint64_t offset, bool is_direct);

void sim_hold(struct inode *inode, enum io_lock which, enum sim_hold hold);
void sim_let_go(struct inode *inode, enum io_lock which, enum sim_hold hold);

/* Bytes from `at` on that share a sector, at most `size` of them. */
size_t sim_part_of_sector(uint64_t at, size_t size);

void sim_sync_file(struct inode *inode);

/* A sync that fails: what it should have covered is durable now, or lost. See simdisk.h. */
void sim_sync_in_vain(struct simdisk *disk, struct inode *inode);

/* The barrier of one write and nothing else; only what it overwrites must not come back. */
void sim_sync_write(struct inode *inode, const struct change *write);

/* ---- mapped files: simdisk_pages.c ------------------------------------------------------------- */

void sim_map_file(struct inode *inode, size_t bytes);
void sim_unmap_file(struct simdisk *disk, struct inode *inode);
/* The file that has the byte in a mapped page, or NULL. */
struct inode *sim_find_mapped(const struct simdisk *disk, const unsigned char *bytes);
/* What was stored in mapped files is in the page cache. */
void sim_take_stores(struct simdisk *disk);
/* What the page cache shows from there on has changed. */
void sim_show_in_pages(struct inode *inode, uint64_t offset, uint64_t size);

/* ---- the directory ---------------------------------------------------------------------------- */

bool sim_is_named(const struct directory *dir, size_t inode);
const struct entry *sim_find_name(const struct directory *dir, const char *name);

/* File `inode` is now called `name`, alone; or nothing, if `name` is empty. */
void sim_name_file(struct directory *dir, const char *name, size_t inode);

void sim_copy_directory(struct directory *to, const struct directory *from);
void sim_change_directory(struct simdisk *disk, const char *name, size_t inode);
void sim_sync_directory(struct simdisk *disk);

/* A failed sync: some of it is durable, none of it is lost. */
void sim_sync_some_names(struct simdisk *disk);

/* ---- the machine ------------------------------------------------------------------------------ */

/* Another thread goes on, perhaps, and changes what it may. */
void sim_take_turn(struct simdisk *disk);
/* Before each operation: takes turns, counts it, lets time pass for what is still in flight, and says whether it is to
 * fail. */
int sim_begin(struct simdisk *disk, enum simdisk_op op, const struct inode *inode, const char *name,
              uint64_t offset, size_t size);
void sim_call_hook(struct simdisk *disk, enum simdisk_op op);
bool sim_is_lying(const struct simdisk *disk, enum simdisk_op op);

/* The writes of a killed process reach the disk, or were never started by the kernel; its locks end. */
void sim_land_ghosts(struct simdisk *disk);

#endif
