/* Run a program on one core and write down what it used: launch CORE USAGE_FILE PROGRAM [ARGUMENT]...
 *
 * A process's peak memory, as the kernel reports it to its parent, includes that of the process it was
 * forked from. So programs to be measured are started from here, which is small, not from Python. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

static void run(int core, char **command)
{
    cpu_set_t cores;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* so that a time-out that ends us ends the program too */
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores))
        perror("sched_setaffinity");
    else if (execvp(command[0], command))
        perror(command[0]);
    _exit(127);
}

int main(int argc, char **argv)
{
    double start = monotonic_seconds();
    struct rusage usage;
    FILE *out;
    pid_t child;
    int status;

    if (argc < 4) {
        fprintf(stderr, "usage: %s CORE USAGE_FILE PROGRAM [ARGUMENT]...\n", argv[0]);
        return 2;
    }
    child = fork();
    if (child == 0)
        run(atoi(argv[1]), argv + 3);
    if (child < 0 || wait4(child, &status, 0, &usage) < 0 || !(out = fopen(argv[2], "w"))) {
        perror(argv[2]);
        return 1;
    }
    fprintf(out, "{\"wall\":%.6f,\"user\":%.6f,\"system\":%.6f,\"rss\":%ld}\n", monotonic_seconds() - start,
            seconds(usage.ru_utime), seconds(usage.ru_stime), usage.ru_maxrss * 1024L);
    fclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
