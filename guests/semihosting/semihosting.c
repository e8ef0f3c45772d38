/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls to the host, each by each of its instructions; the guest checks the answers. Without --semihosting the first call
 * is an unexpected exception. The parameter says how the guest ends, for a test of that:
 *
 *   0   by SYS_EXIT_EXTENDED, status 0 where all is well      2   by SYS_EXIT, a run-time error
 *   1   by SYS_EXIT, which passes                             3   by SYS_EXIT_EXTENDED, status 7
 *   4   by PSCI SYSTEM_OFF, after "EXIT: STATUS=1"            5   by PSCI SYSTEM_OFF, after "EXIT: STATUS=7" of code 3
 *   6   by PSCI SYSTEM_OFF, and no such line
 *
 * The folder, if there is one, has a file "input" with the bytes "abcdefgh".
 */
#include "guest.h"

enum {
    SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITEC = 0x03, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06,
    SYS_READC = 0x07, SYS_ISERROR = 0x08, SYS_ISTTY = 0x09, SYS_SEEK = 0x0a, SYS_FLEN = 0x0c, SYS_REMOVE = 0x0e,
    SYS_RENAME = 0x0f, SYS_CLOCK = 0x10, SYS_TIME = 0x11, SYS_ERRNO = 0x13, SYS_GET_CMDLINE = 0x15, SYS_HEAPINFO = 0x16,
    SYS_EXIT = 0x18, SYS_EXIT_EXTENDED = 0x20, SYS_ELAPSED = 0x30, SYS_TICKFREQ = 0x31,
};
#define ADP_APPLICATION_EXIT 0x20026u
#define ADP_RUN_TIME_ERROR 0x20023u
#define FAILED 0xffffffffu

uint32_t call_svc(uint32_t operation, uintptr_t parameter);
uint32_t call_hlt(uint32_t operation, uintptr_t parameter);
uint32_t call_svc_thumb(uint32_t operation, uintptr_t parameter);
uint32_t call_hlt_thumb(uint32_t operation, uintptr_t parameter);
uint32_t call_bkpt_thumb(uint32_t operation, uintptr_t parameter);

static unsigned wrong;

static void check(const char *what, bool holds)
{
    if (holds)
        return;
    wrong++;
    print("wrong: %s\n", what);
}

static uint32_t with(uint32_t operation, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    uint32_t block[4] = { a, b, c, d };

    return call_svc(operation, (uintptr_t)block);
}

static uint32_t length(const char *text)
{
    uint32_t n = 0;

    while (text[n])
        n++;
    return n;
}

static uint32_t open(const char *name, uint32_t mode)
{
    return with(SYS_OPEN, (uintptr_t)name, mode, length(name), 0);
}

static bool same(const char *a, const char *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

static void print_by_all(void)
{
    static const char text[] = " and the host";

    print("the UART");
    call_svc(SYS_WRITE0, (uintptr_t)text);
    call_hlt(SYS_WRITE0, (uintptr_t)" HLT");
    call_svc_thumb(SYS_WRITE0, (uintptr_t)" SVC");
    call_hlt_thumb(SYS_WRITE0, (uintptr_t)" HLT");
#ifndef QEMU /* there it is for M profiles only, as in ARM's text */
    call_bkpt_thumb(SYS_WRITE0, (uintptr_t)" BKPT");
#endif
    call_svc(SYS_WRITEC, (uintptr_t)"\n");
    print("the UART again\n");
}

static void use_console(void)
{
    static const char text[] = "by a handle\n";
    char byte;
    uint32_t in = open(":tt", 0), out = open(":tt", 4), err = open(":tt", 8);

    check("handles are numbers of their own", in != out && out != err && in != FAILED && out != FAILED && err != FAILED);
    check("the console is one", with(SYS_ISTTY, out, 0, 0, 0) == 1);
    check("all of it is written", with(SYS_WRITE, out, (uintptr_t)text, sizeof text - 1, 0) == 0);
    check("nothing is typed", with(SYS_READ, in, (uintptr_t)&byte, 1, 0) == 1 && call_svc(SYS_READC, 0) == FAILED);
    check("what is for reading is not for writing", with(SYS_WRITE, in, (uintptr_t)text, 1, 0) == FAILED);
    check("its errno is EBADF", call_svc(SYS_ERRNO, 0) == 9);
    check("it closes", with(SYS_CLOSE, out, 0, 0, 0) == 0 && with(SYS_CLOSE, out, 0, 0, 0) == FAILED);
}

static void use_files(void)
{
    char bytes[16] = { 0 };
    uint32_t file = open("input", 1);

    if (file == FAILED) {
        print("no folder: errno %u\n", call_svc(SYS_ERRNO, 0));
        return;
    }
    check("its length", with(SYS_FLEN, file, 0, 0, 0) == 8);
    check("it is no console", with(SYS_ISTTY, file, 0, 0, 0) == 0);
    check("half is read", with(SYS_READ, file, (uintptr_t)bytes, 4, 0) == 0 && same(bytes, "abcd", 4));
    check("the end is short", with(SYS_READ, file, (uintptr_t)bytes, 16, 0) == 12 && same(bytes, "efgh", 4));
    check("it seeks", with(SYS_SEEK, file, 2, 0, 0) == 0 && with(SYS_READ, file, (uintptr_t)bytes, 1, 0) == 0
                          && bytes[0] == 'c');
    check("it closes", with(SYS_CLOSE, file, 0, 0, 0) == 0);
    file = open("made", 5);
    check("a file is made", file != FAILED && with(SYS_WRITE, file, (uintptr_t)"hello", 5, 0) == 0);
    check("it closes", with(SYS_CLOSE, file, 0, 0, 0) == 0);
    check("it has another name", with(SYS_RENAME, (uintptr_t)"made", 4, (uintptr_t)"output", 6) == 0);
    check("the first is gone", with(SYS_REMOVE, (uintptr_t)"made", 4, 0, 0) == FAILED);
    check("nothing above", open("../input", 1) == FAILED && open("/etc/passwd", 0) == FAILED);
}

static void ask(void)
{
    uint32_t heap[4], ticks[2], later[2];
    char line[64];
    uint32_t block[2] = { (uintptr_t)line, sizeof line };
    uint32_t pointer = (uintptr_t)heap;

    check("the time", call_svc(SYS_TIME, 0) > 1700000000u);
    check("ticks by the second", call_svc(SYS_TICKFREQ, 0) == 1000000000u);
    check("ticks", call_svc(SYS_ELAPSED, (uintptr_t)ticks) == 0 && call_svc(SYS_ELAPSED, (uintptr_t)later) == 0
                       && (later[1] > ticks[1] || (later[1] == ticks[1] && later[0] > ticks[0])));
    check("a clock", call_svc(SYS_CLOCK, 0) < 0x7fffffff);
    check("a heap", call_svc(SYS_HEAPINFO, (uintptr_t)&pointer) == 0 && heap[0] > (uintptr_t)&wrong && heap[1] > heap[0]
                        && heap[1] == RAM_BASE + RAM_BYTES);
    check("a command line", call_svc(SYS_GET_CMDLINE, (uintptr_t)block) == 0 && line[block[1]] == 0);
    print("command line: %s\n", line);
    check("errors are negative", with(SYS_ISERROR, FAILED, 0, 0, 0) != 0 && with(SYS_ISERROR, 0, 0, 0, 0) == 0);
}

static void ask_nonsense(void)
{
    check("no such operation", call_svc(0x77, 0) == FAILED);
    check("a block outside memory", call_svc(SYS_OPEN, 0x10) == FAILED && call_svc(SYS_WRITE, 0xfffffffc) == FAILED);
    check("a string outside memory", with(SYS_OPEN, 0x08000000, 0, 4, 0) == FAILED);
    check("a length that is nonsense", with(SYS_OPEN, (uintptr_t)"x", 0, 0x80000000, 0) == FAILED);
    check("a mode that is nonsense", with(SYS_OPEN, (uintptr_t)":tt", 12, 3, 0) == FAILED);
    check("EFAULT", call_svc(SYS_HEAPINFO, 0) == FAILED && call_svc(SYS_ERRNO, 0) == 14);
}

int main(void)
{
    uint32_t how = testdev_parameter(0), block[2] = { ADP_APPLICATION_EXIT, how == 3 ? 7 : wrong };

    print_by_all();
    use_console();
    use_files();
    ask();
    ask_nonsense();
    print("result: guest=semihosting wrong=%u\n", wrong);
    if (how == 1)
        call_svc(SYS_EXIT, ADP_APPLICATION_EXIT);
    if (how == 2)
        call_svc(SYS_EXIT, ADP_RUN_TIME_ERROR);
    if (how == 4 || how == 5)
        print("\nEXIT: STATUS=%u\n", how == 4 ? 1 : 7);
    if (how >= 4)
        psci_system_off();
    block[1] = how == 3 ? 7 : wrong;
    call_svc(SYS_EXIT_EXTENDED, (uintptr_t)block);
    return 9;
}
