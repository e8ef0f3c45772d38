/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vcpu_worker/engine/vcpu.h"

#include <stdio.h>

bool vcpu_failed(struct vcpu *v, const char *what, uc_err error)
{
    if (error == UC_ERR_OK)
        return false;
    snprintf(v->sentence, sizeof v->sentence, "the engine cannot %s: %s", what, uc.strerror(error));
    return true;
}
