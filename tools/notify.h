/* SPDX-License-Identifier: Apache-2.0 */
/* What a service manager is told: the protocol of sd_notify(3), a datagram to the socket that NOTIFY_SOCKET names. */
#ifndef TOOLS_NOTIFY_H
#define TOOLS_NOTIFY_H

/* Lines like "READY=1" and "STATUS=...", with a newline between them. Nothing happens if nobody has asked for it. */
void notify(const char *lines);

#endif
