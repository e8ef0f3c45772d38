# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: F403
"""Every message that crosses a process border: by subject, in the modules that are imported here.

A message is one class: its number and its route (senders and receivers) in the line above it, its meaning in its
docstring, its fields below. Nothing else lists messages: the codec, the servers' admission and PROTOCOL.md
(`allstop.vm.wire.protocol`) read the classes. A new subject needs its import here.

A message is an immutable tuple, positional on the wire (a msgpack array whose first element is the message's number)
and named in the code. Commands are imperative (`StopWorld`), replies and facts participles or past (`WorldStopped`,
`ProcessLost`). The codec checks each field against its annotation:

    U8 U16 U32 U64   integers of that many bits
    Flag             a bool
    Text             a str of at most 4096 characters
    Blob             bytes of at most 1 MiB
"""

from __future__ import annotations

from allstop.vm.wire.fields import MAX_BLOB as MAX_BLOB
from allstop.vm.wire.fields import MAX_TEXT as MAX_TEXT
from allstop.vm.wire.message import NUMBERS as NUMBERS
from allstop.vm.wire.message import ROUTES as ROUTES
from allstop.vm.wire.message import Message as Message
from allstop.vm.wire.messages_connection import *
from allstop.vm.wire.messages_debugger import *
from allstop.vm.wire.messages_devices import *
from allstop.vm.wire.messages_hosts import *
from allstop.vm.wire.messages_operators import *
from allstop.vm.wire.messages_run import *
from allstop.vm.wire.messages_world import *
from allstop.vm.wire.routes import *
