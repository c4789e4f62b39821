/*
 * Preloaded into a process, makes its disk one that takes so many bytes a second, for all files together: what is
 * written waits in the cache, a sync waits until the disk has taken all of it, and so does a write that finds a second's
 * worth of bytes before it.
 *
 * SLOW_DISK_BYTES_PER_SECOND   the speed
 * SLOW_DISK_FOLDER             only files whose path holds this are on that disk
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* What one sync costs besides its bytes. */
static const double SEEK = 0.005;
static const double CACHE = 1.0;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* When the disk will have taken everything, in seconds of the monotonic clock. */
static double done_at;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void wait_for(double seconds) {
    if (seconds <= 0) return;
    struct timespec time = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

static int is_slow(int file) {
    char link[64], path[PATH_MAX];
    const char *folder = getenv("SLOW_DISK_FOLDER");
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || folder == NULL) return 0;
    path[length] = 0;
    return path[0] == '/' && strstr(path, folder) != NULL;
}

/* How long the disk is busy from now on after so much more. */
static double queue(double seconds) {
    pthread_mutex_lock(&lock);
    double time = now();
    if (done_at < time) done_at = time;
    done_at += seconds;
    double busy = done_at - time;
    pthread_mutex_unlock(&lock);
    return busy;
}

static void written(int file, ssize_t bytes) {
    if (bytes <= 0 || !is_slow(file)) return;
    const char *rate = getenv("SLOW_DISK_BYTES_PER_SECOND");
    wait_for(queue(bytes / atof(rate)) - CACHE);
}

ssize_t write(int file, const void *from, size_t bytes) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    ssize_t done = real(file, from, bytes);
    written(file, done);
    return done;
}

ssize_t writev(int file, const struct iovec *slices, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = dlsym(RTLD_NEXT, "writev");
    ssize_t done = real(file, slices, count);
    written(file, done);
    return done;
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    ssize_t done = real(file, from, bytes, at);
    written(file, done);
    return done;
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (is_slow(file)) wait_for(queue(SEEK));
    return real(file);
}
