/* A libmodbus client that reads registers as fast as it can: libmodbus_reader PORT FUNCTION REGISTERS SECONDS, with
 * function 3 (holding) or 4 (input). Prints one JSON object. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <modbus.h>

static double seconds_of(struct timeval time) { return time.tv_sec + time.tv_usec / 1e6; }

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* Peak memory of this program alone: what getrusage says includes the program that started it. */
static long peak_rss_kib(void)
{
    char line[256];
    long peak = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        sscanf(line, "VmHWM: %ld kB", &peak);
    if (status != NULL)
        fclose(status);
    return peak;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    int holding = atoi(argv[2]) == 3, count = atoi(argv[3]);
    double length = atof(argv[4]);
    uint16_t words[MODBUS_MAX_READ_REGISTERS];
    modbus_t *context = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    modbus_set_slave(context, 1);
    if (count < 1 || count > MODBUS_MAX_READ_REGISTERS || modbus_connect(context) == -1)
        return 1;
    long reads = 0;
    double begun = now();
    while (now() - begun < length) {
        int got = holding ? modbus_read_registers(context, 0, count, words)
                          : modbus_read_input_registers(context, 0, count, words);
        if (got != count)
            return 1;
        reads++;
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
    printf("{\"reads\": %ld, \"seconds\": %.3f, \"cpu_us\": %.0f, \"peak_rss_kib\": %ld}\n", reads, now() - begun,
           cpu * 1e6, peak_rss_kib());
    modbus_close(context);
    modbus_free(context);
    return 0;
}
