/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control page: the words that the processes of one host share, and the only code that touches them.
 *
 *   layout.h            the words
 *   rows.h              one row for each request, counter, histogram and activity
 *   requests.h          how a vCPU is asked to exit from the guest, and how it enters, exits, sleeps and is parked
 *   remote_slot.h       the slot of a vCPU on another host, and what is asked of this host's node
 *   shootdown.h         waiting while shootdowns are under way
 *   invalidation_log.h  which translations and which translated blocks have to go
 *   wx_pages.h          the pages that are writable and executable
 *   telemetry.h         counters, histograms, activities
 *   access_ledger.h     the MMIO oracle's two ledgers
 *   futex.h             waiting on a word
 */
#ifndef ALLSTOP_CONTROL_PAGE_H
#define ALLSTOP_CONTROL_PAGE_H

#include "access_ledger.h"
#include "futex.h"
#include "invalidation_log.h"
#include "layout.h"
#include "remote_slot.h"
#include "requests.h"
#include "shootdown.h"
#include "telemetry.h"
#include "wx_pages.h"

#endif
