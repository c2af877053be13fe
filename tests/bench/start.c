// SPDX-License-Identifier: Apache-2.0
// start RESULT PROGRAM [ARGUMENT...]: run a program to its end, and write to the file RESULT
// its time in ns, its peak memory in KB and its wait status.
//
// A process's peak memory begins with that of the process that spawned it. So a program
// is started by this one, which is as small as the stub, and not by Python.
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

int main(int argc, char **argv, char **environment)
{
	struct timespec begin, end;
	struct rusage usage;
	pid_t child;
	int status;

	if (argc < 3)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	if (posix_spawnp(&child, argv[2], NULL, NULL, argv + 2, environment) != 0)
		return 127;
	if (wait4(child, &status, 0, &usage) != child)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &end);
	FILE *result = fopen(argv[1], "w");
	if (result == NULL)
		return 1;
	fprintf(result, "%lld %ld %d\n",
		(end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec,
		usage.ru_maxrss, status);
	return fclose(result) != 0;
}
