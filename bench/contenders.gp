# SPDX-License-Identifier: Apache-2.0
# What the pictures have in common: a contender has the same colour, the same shape and the same words in each of them.
#
# A script is run as gnuplot -e "...; programs='bench'" bench/plot.gp, and loads programs . "/contenders.gp".
#
# The colours are told apart by colour-blind eyes, too: twinlog's own are red and orange, and references are grey.
# A contender that is not here is black, with its own name.

known = "twinlog twinlog:fresh twinlog-mmap twinlog-pread twinlog-durable sink sink-shared " . \
        "raw raw-large bare disk-direct disk-buffered naive by-hand bdb leveldb rocksdb rocksdb-pipelined " . \
        "sqlite sqlite-together wiredtiger write write-fdatasync stdio stdio-64k mmap"
array known_colours = [ \
    0xd55e00, 0xf0a060, 0xd55e00, 0xd55e00, 0xd55e00, 0xa02c2c, 0xa02c2c, \
    0x9a9a9a, 0x9a9a9a, 0x9a9a9a, 0x9a9a9a, 0x9a9a9a, 0x009e73, 0xcc79a7, 0x0072b2, 0x8c8c00, 0x000000, 0x7f7f7f, \
    0x8a7fd0, 0x5e4fa2, 0xa6761d, 0x56b4e9, 0x56b4e9, 0x66a61e, 0x66a61e, 0x1f4e79]
array known_shapes = [ \
    7, 6, 7, 7, 7, 15, 14, \
    4, 4, 4, 4, 4, 9, 13, 11, 3, 2, 1, \
    8, 10, 12, 5, 5, 17, 17, 19]
array known_titles = [ \
    "twinlog", "twinlog, no segment prepared", "twinlog, mapped", "twinlog, read", "twinlog, durable", \
    "sink", "sink, several processes", \
    "the disk alone: bare writes", "the disk alone: writes of 4 MiB", \
    "memory alone: checksums", "the disk alone: direct", "the disk alone: buffered", \
    "write + fdatasync under a lock", "group commit by hand", "Berkeley DB", "LevelDB", "RocksDB", "RocksDB, pipelined", \
    "SQLite, each record", "SQLite, all that wait", "WiredTiger", \
    "write()", "write() + fdatasync()", "stdio", "stdio, buffer of 64 KiB", "mmap() + memcpy()"]

number_of(name) = int(sum [n = 1:words(known)] (word(known, n) eq name ? n : 0))
colour_of(name) = number_of(name) > 0 ? known_colours[number_of(name)] : 0x000000
shape_of(name) = number_of(name) > 0 ? known_shapes[number_of(name)] : 1
title_of(name) = number_of(name) > 0 ? known_titles[number_of(name)] : name

# The same in two lines, below a bar.
comma_in(title) = strstrt(title, ", ") ? strstrt(title, ", ") : strstrt(title, ": ")
in_two_lines(title) = comma_in(title) ? title[1:comma_in(title) - 1] . "\n" . title[comma_in(title) + 2:*] : title
label_of(name) = in_two_lines(title_of(name))

is_ours(name) = name[1:7] eq "twinlog" || name[1:4] eq "sink"
is_reference(name) = strstrt("raw raw-large bare disk-direct disk-buffered", name) > 0

# Lighter by that part of the way to white.
lighter_part(channel, part) = int(channel + (255 - channel) * part)
lighter(colour, part) = lighter_part(colour / 65536, part) * 65536 + lighter_part(colour / 256 % 256, part) * 256 \
                        + lighter_part(colour % 256, part)
