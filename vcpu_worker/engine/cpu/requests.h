/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ALLSTOP_ENGINE_CPU_REQUESTS_H
#define ALLSTOP_ENGINE_CPU_REQUESTS_H

#include "vcpu_worker/engine/vcpu.h"

/* Serve what other vCPUs posted, outside the guest: flushes, the interrupt line, pings. STOP, EVENT, QUIT and TICK are
 * the run loop's. */
void vcpu_serve(struct vcpu *v);

#endif
