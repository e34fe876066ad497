/* What the Rust compiler's ThreadSanitizer calls and gcc's runtime has under other names: copies that are watched. */
#include <string.h>

void *__tsan_memcpy(void *to, const void *from, size_t bytes) {
    return memcpy(to, from, bytes);
}

void *__tsan_memmove(void *to, const void *from, size_t bytes) {
    return memmove(to, from, bytes);
}

void *__tsan_memset(void *to, int value, size_t bytes) {
    return memset(to, value, bytes);
}
