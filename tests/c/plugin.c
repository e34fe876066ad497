/* A plugin that is linked with libnccl.so.2; its host opens it in local scope. */
#include "nccl_min.h"

int plugin_version(void);

int plugin_version(void) {
    int version = 0;
    return ncclGetVersion(&version) == 0 ? version : -1;
}
