/* Preloaded into a node: shifts its wall clock and delays what it waits for from its disk, as two numbers in a shared file
   say: nanoseconds to add to the clock, microseconds to wait before each fsync and fdatasync. Monotonic clocks stay. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct orders {
    int64_t clock_ns;
    int64_t sync_us;
};

static volatile struct orders none;
static volatile struct orders *orders = &none;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_ORDERS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, sizeof(struct orders), PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) orders = mapped;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    int64_t ns = at->tv_nsec + orders->clock_ns % 1000000000;
    at->tv_sec += orders->clock_ns / 1000000000;
    if (ns < 0) { ns += 1000000000; at->tv_sec -= 1; }
    if (ns >= 1000000000) { ns -= 1000000000; at->tv_sec += 1; }
    at->tv_nsec = ns;
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

static void wait_for_disk(void) {
    int64_t us = orders->sync_us;
    if (us > 0) usleep((useconds_t)us);
}

int fdatasync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fsync, file);
}
