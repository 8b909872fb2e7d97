/* SPDX-License-Identifier: Apache-2.0 */
/* What the modules share: what a message carries beside the bytes of the record, as text, and a wake-up. */
#ifndef TOOLS_STREAM_ID_H
#define TOOLS_STREAM_ID_H

#include "stream.h"

#define STREAM_ID_BYTES 64u
#define STREAM_RECORD_BYTES 136u

/* "LOG:LSN", the message's id. */
void stream_print_id(char ret_text[STREAM_ID_BYTES], const char *log_id, uint64_t lsn);
/* "TIME TYPE TAG SALT LSN SALT SHIPPER", the header Twinlog-Record, with LSN and salt of the record in front; the first
 * and the last lost LSN follow, if there are any. The next message is behind this one. */
void stream_print_record(char ret_text[STREAM_RECORD_BYTES], struct stream *stream,
                         const struct twinlog_record *record, const char *shipper);
/* Both back. Either may be NULL or wrong: then the message's lsn is 0. */
void stream_parse(const char *id, const char *record, struct stream_message *ret_message);

/* Makes the stream's descriptor readable. From any thread. */
void stream_wake(struct stream *stream);

#endif
