/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off: tables */
/* The rows of the control page's tables: one for each request, counter, histogram and activity.
 *
 * This is the only place that a row is written in. The enumerations below, the constants and tables of the Python
 * module `control`, figures.json, verdict.json and the report follow from it. After a change:
 *
 *   python -W ignore setup.py -q build_ext --inplace && python -m allstop.vm.telemetry.stubs
 */
#ifndef ALLSTOP_ROWS_H
#define ALLSTOP_ROWS_H

/* Requests to a vCPU: name, bit. */
#define CP_REQUESTS(X)                                                                                                 \
    X(STOP, 0)       /* stay outside the guest until the bit is cleared */                                             \
    X(TLB_FLUSH, 1)  /* drop every translation */                                                                      \
    X(CODE_FLUSH, 2) /* read the code log, and drop the translated blocks of its pages */                              \
    X(INTERRUPT, 3)  /* the interrupt line word has changed */                                                         \
    X(EVENT, 4)      /* exit to Python: a message is waiting */                                                        \
    X(PING, 5)       /* beat */                                                                                        \
    X(QUIT, 6)       /* exit to Python: the run is over */                                                             \
    X(TICK, 7)       /* look at the timers */                                                                          \
    X(TLB_PAGES, 8)  /* read the TLB log, and drop the translations of its pages */                                    \
    X(HOLD, 9)       /* say when an instruction has retired: another host waits for a page that this vCPU was given */

/* Counters of a vCPU: name, name in verdict.json and figures.json, EXIT or STEP. An EXIT is an exit from the guest;
 * a STEP is what was done about one, or needs none. An exit without syndrome (nisv) adds the accesses that its
 * instruction makes to mmio_read and mmio_write. */
#define CP_COUNTERS(X)                                                                                                 \
    X(MMIO_READ, "mmio_read", EXIT)                                                                                    \
    X(MMIO_WRITE, "mmio_write", EXIT)                                                                                  \
    X(NISV, "nisv", EXIT)                                                                                              \
    X(HVC, "hvc", EXIT)                                                                                                \
    X(SMC, "smc", EXIT)                                                                                                \
    X(WFI, "wfi", EXIT)                                                                                                \
    X(WFE, "wfe", STEP)                                                                                                \
    X(YIELD, "yield", STEP)                                                                                            \
    X(TLBI, "tlbi", EXIT)                                                                                              \
    X(CP15, "cp15", EXIT)                                                                                              \
    X(STAGE2_FAULT, "stage2", EXIT)                                                                                    \
    X(TOGGLE_EXEC, "flip_to_exec", STEP)                                                                               \
    X(TOGGLE_WRITE, "flip_to_write", STEP)                                                                             \
    X(SHARED_CODE, "write_exec_pages", STEP)                                                                           \
    X(TLB_FLUSH, "tlb_flush", STEP)                                                                                    \
    X(CODE_FLUSH, "code_flush", STEP)                                                                                  \
    X(INTERRUPT, "interrupt", STEP)                                                                                    \
    X(KICK, "kick", STEP)                                                                                              \
    X(STOPPED, "stopped", STEP)                                                                                        \
    X(ICACHE, "icache", EXIT)                                                                                          \
    X(PING, "ping", STEP)                                                                                              \
    X(UNASSIGNED, "unassigned", STEP)                                                                                  \
    X(ABORT, "abort_injected", STEP)                                                                                   \
    X(FETCH_RETRY, "fetch_retry", STEP)                                                                                \
    X(FETCH_REFUSED, "fetch_refused", STEP)                                                                            \
    X(FETCH_DISAGREED, "fetch_disagreed", STEP)                                                                        \
    X(FETCH_WRONG, "fetch_wrong", STEP)                                                                                \
    X(STALE_TLB, "stale_tlb", STEP)                                                                                    \
    X(RESENT, "mmio_resent", STEP)                                                                                     \
    X(STALE, "mmio_stale_reply", STEP)                                                                                 \
    X(SWAP_OUT, "swap_out", STEP)                                                                                      \
    X(SWAP_IN, "swap_in", STEP)                                                                                        \
    X(SWAP_WRITTEN, "swap_written", STEP)                                                                              \
    X(OTHER, "other", EXIT)                                                                                            \
    X(MMIO_WRONG, "mmio_wrong", STEP)                                                                                  \
    X(UNDEFINED, "undefined_access", STEP)                                                                             \
    X(SEMIHOSTING, "semihosting", EXIT)                                                                                \
    X(SEMIHOSTING_BAD, "semihosting_refused", STEP)                                                                    \
    X(PAGE_READ, "page_reads", STEP)                                                                                   \
    X(PAGE_WRITE, "page_writes", STEP)

/* Histograms of a vCPU: name, key in figures.json, key in verdict.json, title and meaning in the report, kind of the
 * journal's records from which the report recomputes it. */
#define CP_HISTOGRAMS(X)                                                                                               \
    X(MMIO, "mmio", "mmio", "MMIO", "a vCPU's access to a device, from request to answer", "MMIO")                     \
    X(STOP, "stop", "stops", "Stop", "from asking for the world until every vCPU is out of the guest", "STOP_GRANTED") \
    X(SHOOTDOWN, "shootdown", "shootdowns", "Shootdown", "asking the other vCPUs to flush, and waiting for them",      \
      "SHOOTDOWN")                                                                                                     \
    X(FETCH, "fetch", "fetches", "Fetch", "getting an instruction without syndrome: stop, translation, read",          \
      "FETCHED")                                                                                                       \
    X(PAGE, "page", "pages", "Page wait", "a vCPU's wait for a page that is on another host", "PAGED")

/* What a process may be doing: name, words, and how its detail is told: not at all (NOTHING), as an ADDRESS or as a
 * NUMBER. */
#define CP_ACTIVITIES(X)                                                                                               \
    X(NONE, "starting", NOTHING)                                                                                       \
    X(OFF, "switched off", NOTHING)                                                                                    \
    X(GUEST, "in the guest", NOTHING)                                                                                  \
    X(WFI, "asleep in WFI", NOTHING)                                                                                   \
    X(MMIO, "waiting for the device at", ADDRESS)                                                                      \
    X(WAIT_WORLD, "waiting for the world to stop", NOTHING)                                                            \
    X(OWN_WORLD, "holding the stopped world", NOTHING)                                                                 \
    X(PARKED, "parked by a stop", NOTHING)                                                                             \
    X(PSCI, "in a PSCI call", NOTHING)                                                                                 \
    X(FETCH, "fetching the instruction at", ADDRESS)                                                                   \
    X(SHOOTDOWN, "waiting for a TLB invalidation by vCPU", NUMBER)                                                     \
    X(DEVICE, "in the device at", ADDRESS)                                                                             \
    X(STOPPING, "stopping the world, vCPUs missing:", NUMBER)                                                          \
    X(IDLE, "idle", NOTHING)                                                                                           \
    X(SEMIHOSTING, "in the semihosting operation", NUMBER)                                                             \
    X(PAGE, "waiting for another host's page at", ADDRESS)

#define X(name, bit) CP_##name = 1u << bit,
enum { CP_REQUESTS(X) };
#undef X

#define X(name, ...) CP_COUNT_##name,
enum { CP_COUNTERS(X) CP_COUNTER_COUNT };
#undef X

#define X(name, ...) CP_HIST_##name,
enum { CP_HISTOGRAMS(X) CP_HIST_COUNT };
#undef X

#define X(name, ...) CP_ACTIVITY_##name,
enum { CP_ACTIVITIES(X) CP_ACTIVITY_COUNT };
#undef X

#endif
