/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off: tables */
/* What can be journalled: one row for each kind of record.
 *
 * This is the only place that a row is written in. The C enumeration, Recorder's constants, allstop.vm.journal.kind
 * (what readers use) and docs/journal.md follow from it. After a change:
 *
 *   python -W ignore setup.py -q build_ext --inplace && python -m allstop.vm.telemetry.generate
 *
 * A row is the name, the number, the names of the operands (at most six), and the meaning. A kind whose last operand is
 * took_ns is a span, which ended at the record's time. Words, where there are any, follow in TEXT records. Numbers are
 * in journals on disks: a kind keeps its number, and a number is not used again.
 */
#ifndef ALLSTOP_KINDS_H
#define ALLSTOP_KINDS_H

/* W(words) begins the records that one kind of process writes. */
#define JOURNAL_KINDS(X, W)                                                                                            \
    W("All processes")                                                                                                 \
    X(TEXT, 1, "", "more words of the record before it; the vCPU field counts their bytes")                            \
    W("The worker")                                                                                                    \
    X(EXIT, 16, "exit_kind pc hsr ipa instruction took_ns",                                                            \
      "an exit that Python handled, until the vCPU may enter again")                                                   \
    X(MMIO, 17, "ipa size is_write value status took_ns", "an access to a device, until its answer")                   \
    X(FETCHED, 18, "pc executed fetched hdfar invalidations took_ns",                                                  \
      "an instruction without syndrome: what was executed (all ones: not known), and what was fetched for it "         \
      "(all ones: nothing, PC did not translate or the fetch was not valid)")                                          \
    X(FETCH_RETRIED, 19, "pc", "the fetch gave nothing that may be used: the vCPU enters again")                       \
    X(FETCH_REFUSED, 20, "pc fetched", "the decoder does not take what was fetched: the guest gets an abort")          \
    X(FETCH_DISAGREED, 21, "pc fetched hdfar", "what was fetched cannot have made the access: the vCPU enters again")  \
    X(VIOLATION, 22, "pc executed fetched hdfar invalidations thumb",                                                  \
      "an oracle fired: another instruction was emulated, or refused, than the one executed")                          \
    X(STOP_ASKED, 23, "may_share", "the vCPU asks for a stopped world")                                                \
    X(STOP_GRANTED, 24, "epoch may_share took_ns", "every vCPU is out of the guest, from asking to knowing it")        \
    X(WORLD_HELD, 25, "epoch took_ns", "the vCPU owned the stopped world")                                             \
    X(PSCI, 26, "function argument1 argument2 argument3 value took_ns", "a PSCI call that returned")                   \
    X(POWERED_ON, 27, "entry r0", "the vCPU starts")                                                                   \
    X(POWERED_OFF, 28, "", "the vCPU is off, and waits to be started")                                                 \
    X(FAILED, 29, "", "the vCPU cannot go on; the words say why")                                                      \
    X(MMIO_WRONG, 31, "ipa size is_write value",                                                                       \
      "an oracle fired: after this access, what the vCPU saw done is not what was performed; the words say how")       \
    W("The worker's engine")                                                                                           \
    X(TLBI, 32, "pc discipline stale invalidation took_ns",                                                            \
      "TLB maintenance by the guest; `stale` vCPUs may go on using what was invalidated")                              \
    X(SHOOTDOWN, 33, "requests ipi invalidation took_ns", "other vCPUs were asked to flush, and waited for")           \
    X(FLUSHED, 34, "requests invalidation", "the vCPU dropped translations (bit 1; of pages, bit 8) or code (bit 2)")  \
    X(FLIPPED, 35, "ipa execute mixed pc took_ns",                                                                     \
      "a page of RAM was toggled to executable or to writable, or became W+X")                                         \
    X(SLEPT, 36, "pc took_ns", "WFI")                                                                                  \
    X(PARKED, 37, "pc took_ns", "a stop kept the vCPU out of the guest")                                               \
    X(LINE_TAKEN, 38, "line pc", "the interrupt inputs as the guest sees them: bit 0 IRQ, bit 1 FIQ")                  \
    X(ABORTED, 39, "address is_write prefetch pc", "the hypervisor makes the guest take an abort")                     \
    X(PAGED, 48, "ipa is_write execute pc took_ns", "the vCPU waited for a page that was on another host")             \
    W("The process that performs an event")                                                                            \
    X(EVENT_DONE, 40, "index", "an event happened, on this vCPU; the words are its name")                              \
    X(EVENT_REFUSED, 41, "index", "an event could not happen; the words say why")                                      \
    X(EVENT_DEFERRED, 42, "index pc", "an event's trigger fired, and its actor waits for this vCPU or for the world")  \
    W("The coordinator")                                                                                               \
    X(STOP_QUEUED, 64, "may_share", "this vCPU, or an operator, asked for a stopped world; the words say why")         \
    X(STOPPED, 65, "epoch took_ns",                                                                                    \
      "this vCPU, or an operator, was granted the stopped world; since the vCPUs were told to exit")                   \
    X(RELEASED, 66, "epoch", "this vCPU, or an operator, gave the world back")                                         \
    X(RESUMED, 67, "", "all owners gave the world back: the vCPUs go on")                                              \
    X(PSCI_CALLED, 68, "function argument1 argument2 argument3", "a PSCI call arrived")                                \
    X(POWER_STARTED, 69, "entry r0", "a vCPU is switched on")                                                          \
    X(POWER_STOPPED, 70, "", "a vCPU is off")                                                                          \
    X(LINE_SET, 71, "line news",                                                                                       \
      "a vCPU's interrupt line as the device server has it: bit 0 IRQ, bit 1 FIQ, above them its version")             \
    X(LOST, 72, "role", "a process is dead or hangs; the words are the launcher's")                                    \
    X(ENDED, 73, "verdict status", "the run has its verdict, an index into VERDICTS; the words say why")               \
    X(MEMBERS_READY, 74, "", "all processes are connected")                                                            \
    W("The device server")                                                                                             \
    X(ACCESS, 96, "ipa size is_write value status took_ns", "a device's access, performed for this vCPU")              \
    X(REPEATED, 97, "sequence", "a request came again, and was answered from the reply cache")                         \
    X(DEVICE_FAILED, 98, "ipa size is_write value", "a device raised; the words say what")                             \
    X(FINISHED, 99, "status", "the guest gave its exit status")

#define W(words)
#define X(name, number, ...) JOURNAL_##name = number,
enum journal_kind { JOURNAL_KINDS(X, W) };
#undef X
#undef W

#endif
