/* Opens a plugin in local scope and asks it which NCCL answers.
 *
 *   plugin_host PLUGIN */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    void *plugin = argc == 2 ? dlopen(argv[1], RTLD_LAZY | RTLD_LOCAL) : NULL;
    if (!plugin) {
        fprintf(stderr, "dlopen: %s\n", dlerror());
        return 2;
    }
    int (*plugin_version)(void) = (int (*)(void))dlsym(plugin, "plugin_version");
    printf("version=%d\n", plugin_version());
    printf("visible-to-host=%d\n", dlsym(RTLD_DEFAULT, "ncclGetVersion") != NULL);
    return 0;
}
