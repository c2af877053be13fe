// SPDX-License-Identifier: Apache-2.0
//
// A runtime that only records how it was called. It writes what a process can know
// about itself to a file beside its executable, EXECUTABLE.record, because an argument,
// a variable or a descriptor for the file would be part of the record.
// A line is a name, a space, and the value's bytes in hexadecimal. If there is a file
// EXECUTABLE.features, it is what the runtime says of its features, and that isn't recorded. Nor is `state`, if
// there is EXECUTABLE.state: that is said on stderr, with the exit status 1.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char record[1 << 21];
static size_t used;

static void say(const char *name, const char *value, size_t length)
{
	used += snprintf(record + used, sizeof(record) - used, "%s ", name);
	for (size_t at = 0; at < length; at++)
		used += snprintf(record + used, sizeof(record) - used, "%02x", (unsigned char)value[at]);
	used += snprintf(record + used, sizeof(record) - used, "\n");
}

static void say_number(const char *name, long long number)
{
	char text[32];
	say(name, text, snprintf(text, sizeof(text), "%lld", number));
}

static void say_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;
	while (directory && (entry = readdir(directory))) {
		int descriptor = atoi(entry->d_name);
		struct stat status;
		char path[64], target[PATH_MAX], text[PATH_MAX + 128];
		if (entry->d_name[0] == '.' || descriptor == dirfd(directory) || fstat(descriptor, &status))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
		ssize_t length = readlink(path, target, sizeof(target) - 1);
		target[length > 0 ? length : 0] = '\0';
		say("descriptor", text,
		    snprintf(text, sizeof(text), "%d %llx:%llx 0%o at %lld: %s", descriptor,
			     (unsigned long long)status.st_dev, (unsigned long long)status.st_ino,
			     fcntl(descriptor, F_GETFL), (long long)lseek(descriptor, 0, SEEK_CUR), target));
	}
	if (directory)
		closedir(directory);
}

// Its signals, from /proc: SigPnd, ShdPnd, SigBlk, SigIgn, SigCgt.
static void say_signals(void)
{
	char line[256];
	FILE *status = fopen("/proc/self/status", "r");
	while (status && fgets(line, sizeof(line), status))
		if ((!strncmp(line, "Sig", 3) && strncmp(line, "SigQ", 4)) || !strncmp(line, "ShdPnd", 6))
			say("signals", line, strcspn(line, "\n"));
	if (status)
		fclose(status);
}

// Whether it is asked for something to which the file EXECUTABLE.NAME has the answer; then that has been given.
static int answers(const char *executable, const char *name, int argc, char **argv, FILE *output)
{
	char path[PATH_MAX + 16];
	snprintf(path, sizeof(path), "%s.%s", executable, name);
	for (int at = 1; at < argc; at++) {
		FILE *answer = strcmp(argv[at], name) ? NULL : fopen(path, "r");
		for (int letter; answer && (letter = getc(answer)) != EOF;)
			putc(letter, output);
		if (answer)
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	char path[PATH_MAX + 16];
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
	if (length < 0)
		return 125;
	path[length] = '\0';
	if (answers(path, "features", argc, argv, stdout))
		return 0;
	if (answers(path, "state", argc, argv, stderr))
		return 1;
	strcpy(path + length, ".record");
	for (int at = 0; at < argc; at++)
		say("argument", argv[at], strlen(argv[at]));
	for (char **variable = environ; *variable; variable++)
		say("environment", *variable, strlen(*variable));
	say_descriptors();
	say_signals();
	char cwd[PATH_MAX];
	if (getcwd(cwd, sizeof(cwd)))
		say("cwd", cwd, strlen(cwd));
	mode_t mask = umask(0);
	umask(mask);
	say_number("umask", mask);
	for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
		struct rlimit limit;
		getrlimit(resource, &limit);
		say_number("soft-limit", (long long)limit.rlim_cur);
		say_number("hard-limit", (long long)limit.rlim_max);
	}
	int signal = 0;
	prctl(PR_GET_PDEATHSIG, &signal);
	say_number("parent-death-signal", signal);
	say_number("no-new-privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	say_number("dumpable", prctl(PR_GET_DUMPABLE));
	say_number("nice", getpriority(PRIO_PROCESS, 0));
	say_number("leads-session", getsid(0) == getpid());
	say_number("leads-group", getpgid(0) == getpid());
	say_number("has-child", waitpid(-1, NULL, WNOHANG | __WALL) >= 0 || errno != ECHILD);
	say_number("pid", getpid());

	int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	return descriptor >= 0 && write(descriptor, record, used) == (ssize_t)used ? 0 : 125;
}
