# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts whose directories and caches of pages are the real ones, and whose stage-2 entries, frames, vCPUs and
network are models that complain. What a host does with an effect is what `coordinator/node/node.py` and
node_memory.c do with it.

A test decides the order: `Hosts.post` gets each message and each want.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from allstop.coordinator.node.page_cache import Effect, Have, Install, PageCache, Revoke, Upgrade, Watch
from allstop.coordinator.node.page_directory import PageDirectory, PageMessage, Send, home_of
from allstop.vm.wire.messages_hosts import PageAsked, PageGranted, PageRecalled, PageYielded

WORDS = 2
ZEROS = (0,) * WORDS
FIRST_DEVICE = 1000


class Kind(Enum):
    """What an instruction does with a page."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"


class Access(NamedTuple):
    """One access of an instruction."""

    page: int
    kind: Kind
    word: int = 0


class Message(NamedTuple):
    """An input: a message between hosts arrives."""

    source: int
    target: int
    message: PageMessage


class Want(NamedTuple):
    """An input: a node learns which page a slot of its host wants."""

    host: int
    slot: int
    page: int
    write: bool
    execute: bool


Input = Message | Want


@dataclass
class Entry:
    """A stage-2 entry and its frame. With `owned` it may be written to, unless it is executable: then it is toggled."""

    owned: bool
    words: tuple[int, ...]
    executable: bool = False
    was_executed: bool = False


@dataclass
class Vcpu:
    """A vCPU, or with `host` alone a device, which has one access at a time and does not get on."""

    host: int
    slot: int
    instruction: tuple[Access, ...] = ()
    wants: tuple[int, bool] | None = None
    progress: int = 0
    told: bool = False
    retired: int = 0
    code: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """What it has translated."""


class Hosts:
    """`count` hosts, each with vCPUs and a device. Host 0 has all pages at first."""

    def __init__(
        self, count: int, vcpus_each: int, pages: Iterable[int], post: Callable[[Input], None], trip_s: float = 0.0
    ) -> None:
        self.count = count
        self.pages = tuple(pages)
        self._post = post
        self.now_s = 0.0
        self.written = {(page, word): 0 for page in self.pages for word in range(WORDS)}
        self._values = 0
        self.entries: list[dict[int, Entry]] = [{} for _ in range(count)]
        self.entries[0] = {page: Entry(True, ZEROS) for page in self.pages}
        self.vcpus = {
            (host, slot): Vcpu(host, slot) for host in range(count) for slot in (*range(vcpus_each), FIRST_DEVICE)
        }
        self.directories = [PageDirectory(host) for host in range(count)]
        self.caches = [
            PageCache(host, count, FIRST_DEVICE, self._is_here(host), self._progress(host), trip_s)
            for host in range(count)
        ]
        self.in_flight: dict[int, int] = dict.fromkeys(self.pages, 0)
        """Page messages that have not arrived, by page."""
        self.kept = dict.fromkeys(self.pages, 0)
        """Recalls that have arrived and were not obeyed yet, by page."""
        self.messages = 0

    # What a guest does

    def begin(self, vcpu: Vcpu, instruction: tuple[Access, ...]) -> None:
        """Its next instruction; all its pages are needed at the same time."""
        assert not vcpu.instruction
        vcpu.instruction = instruction

    def run(self, vcpu: Vcpu) -> bool:
        """Try its instruction: it retires, or waits for the first page that is missing. True when it retired."""
        if not vcpu.instruction or vcpu.wants is not None:
            return False
        entries = self.entries[vcpu.host]
        for page, kind, _ in vcpu.instruction:
            entry = entries.get(page)
            write = kind is Kind.WRITE
            if entry is None or write and not entry.owned:
                vcpu.wants = (page, write)
                self._post(Want(vcpu.host, vcpu.slot, page, write, kind is Kind.EXECUTE))
                return False
        for access in vcpu.instruction:
            self._perform(vcpu, entries[access.page], access)
        vcpu.instruction = ()
        vcpu.retired += 1
        vcpu.progress += 1
        if vcpu.told:
            vcpu.told = False
            self._look(vcpu.host)
        return True

    def _perform(self, vcpu: Vcpu, entry: Entry, access: Access) -> None:
        page, kind, word = access
        if kind is Kind.WRITE:
            if entry.executable:
                entry.executable = False
            self._values += 1
            entry.words = (*entry.words[:word], self._values, *entry.words[word + 1 :])
            self.written[page, word] = self._values
        elif kind is Kind.READ:
            assert entry.words[word] == self.written[page, word], f"{vcpu} has read an old value of page {page}"
        else:
            if not entry.executable:
                self._forget_code(vcpu.host, page)
                entry.executable = entry.was_executed = True
            assert vcpu.code.setdefault(page, entry.words) == entry.words, f"{vcpu} executes old code of page {page}"

    def _forget_code(self, host: int, page: int) -> None:
        for vcpu in self.vcpus.values():
            if vcpu.host == host:
                vcpu.code.pop(page, None)

    # What happens to a host

    def arrive(self, given: Input) -> None:
        """Something reaches a node, which works, and then looks whose time has come."""
        if isinstance(given, Want):
            host = given.host
            assert self.vcpus[host, given.slot].wants == (given.page, given.write)
            self._obey(host, self.caches[host].wanted(given.slot, given.page, given.write, given.execute))
        else:
            host, message = given.target, given.message
            self.in_flight[message.page] -= 1
            match message:
                case PageAsked():
                    self._obey(host, self.directories[host].asked(given.source, message))
                case PageYielded():
                    self._obey(host, self.directories[host].yielded(given.source, message))
                case PageRecalled():
                    self.kept[message.page] += 1
                    self._obey(host, self.caches[host].recalled(message, self.now_s))
                case PageGranted():
                    self._obey(host, self.caches[host].granted(message, self.now_s))
        self._look(host)

    def pass_time(self, until_s: float) -> None:
        """The clock shows more; every node whose time has come looks."""
        self.now_s = max(self.now_s, until_s)
        for host, cache in enumerate(self.caches):
            due_s = cache.due_s()
            if due_s is not None and due_s <= self.now_s:
                self._look(host)

    def due_s(self) -> float | None:
        """When the next node has to look."""
        return min((due_s for cache in self.caches if (due_s := cache.due_s()) is not None), default=None)

    def _look(self, host: int) -> None:
        self._obey(host, self.caches[host].look(self.now_s))

    def _obey(self, host: int, effects: Iterable[Effect] | Iterable[Send]) -> None:
        cache, entries = self.caches[host], self.entries[host]
        for effect in effects:
            match effect:
                case Send(target, message):
                    self.in_flight[message.page] += 1
                    self.messages += target != host
                    self._post(Message(host, target, message))
                case Install(page, data, write, execute, had_code):
                    assert page not in entries, f"page {page} is given to host {host}, which has it"
                    entries[page] = Entry(write, unpack(data), execute and not write, execute and not write)
                    if had_code:
                        self._forget_code(host, page)
                case Upgrade(page):
                    assert page in entries, f"page {page} is not here and may be written to on host {host}"
                    entries[page].owned = True
                case Have(slot, page, write):
                    vcpu = self.vcpus[host, slot]
                    assert vcpu.wants == (page, write), f"{vcpu} is given page {page}, which it does not wait for"
                    vcpu.wants = None
                    cache.given(slot, page, vcpu.progress)
                case Revoke(page, _, share, wants_data):
                    assert page in entries, f"page {page} is taken from host {host}, which does not have it"
                    self.kept[page] -= 1
                    entry = entries[page]
                    if share:
                        entry.owned = False
                    else:
                        del entries[page]
                    data = pack(entry.words) if wants_data else b""
                    self._obey(host, cache.revoked(effect, data, entry.was_executed))
                case Watch(slot):
                    self.vcpus[host, slot].told = True

    def _is_here(self, host: int) -> Callable[[int, bool], bool]:
        def is_here(page: int, write: bool) -> bool:
            entry = self.entries[host].get(page)
            return entry is not None and (entry.owned or not write)

        return is_here

    def _progress(self, host: int) -> Callable[[int], int]:
        return lambda slot: self.vcpus[host, slot].progress

    # What has to be so

    def check(self) -> None:
        """At any moment: one host that may write and no other copy, or copies that are all what was written last."""
        for page in self.pages:
            words = tuple(self.written[page, word] for word in range(WORDS))
            having = {host: entries[page] for host, entries in enumerate(self.entries) if page in entries}
            owners = {host for host, entry in having.items() if entry.owned}
            assert not owners or len(having) == 1, f"page {page}: {owners} may write, {set(having)} have it"
            for host, entry in having.items():
                assert entry.words == words, f"page {page} on host {host} is {entry.words}, not {words}"
            if self.in_flight[page] == 0 and self.kept[page] == 0:
                holders, owned = self.directories[home_of(page, self.count)].holders(page)
                assert (holders, owned) == (set(having), bool(owners)), f"page {page}: the directory has it wrong"

    def check_quiet(self) -> None:
        """When nothing is under way: no slot waits for a page."""
        self.check()
        for vcpu in self.vcpus.values():
            assert vcpu.wants is None, f"{vcpu} waits forever"
        assert self.due_s() is None, "a page that is recalled has not gone"


def pack(words: tuple[int, ...]) -> bytes:
    """A page as it is on the wire: nothing for zeros."""
    return b"".join(word.to_bytes(4, "little") for word in words) if any(words) else b""


def unpack(data: bytes) -> tuple[int, ...]:
    """The other way round."""
    return tuple(int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)) if data else ZEROS
