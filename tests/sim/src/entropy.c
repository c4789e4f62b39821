/* The system's entropy, from a seed: ids, hash maps, select! and jitter are the same in every run with the same
 * RECORDER_SIM_SEED. Loaded in front of libc (LD_PRELOAD) by the parent of a simulation. Each thread has a stream of its
 * own; a simulation does everything that counts on one. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static __thread uint64_t state;
static __thread int ready;

static uint64_t next(void) {
    if (!ready) {
        const char *seed = getenv("RECORDER_SIM_SEED");
        state = seed ? strtoull(seed, NULL, 10) : 0;
        ready = 1;
    }
    state += 0x9e3779b97f4a7c15ULL;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
    (void)flags;
    unsigned char *bytes = buffer;
    for (size_t at = 0; at < length; at += sizeof(uint64_t)) {
        uint64_t word = next();
        size_t rest = length - at;
        memcpy(bytes + at, &word, rest < sizeof word ? rest : sizeof word);
    }
    return (ssize_t)length;
}

int getentropy(void *buffer, size_t length) {
    getrandom(buffer, length, 0);
    return 0;
}
