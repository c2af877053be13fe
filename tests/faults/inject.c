// SPDX-License-Identifier: Apache-2.0
//
// inject PROCESS CALL COUNT ERRNO COMMAND...: run a command, and have one system call of it fail with an error, or with
// ERRNO 0 kill the process that makes it: of process PROCESS the COUNTth call of the kernel's number CALL. strace can't:
// it counts in each process, and hits all of them.
//
// Processes are numbered from 0 in the order in which they are forked. A process's calls count after the command's own
// exec. inject returns when no process of the command is left, and ends as the command did: a child of the command
// whose parent ends becomes inject's child. It ends with 124 if there was no such call. A seccomp filter stops the
// processes at calls of this number only. All of them stay on one CPU, because a switch to another takes three times as
// long.

#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 64

static pid_t processes[MOST];
static int known;

static int number_of(pid_t pid)
{
	for (int at = 0; at < known; at++)
		if (processes[at] == pid)
			return at;
	if (known == MOST)
		exit(125);
	processes[known] = pid;
	return known++;
}

static void skip_call(pid_t pid)
{
#if defined(__x86_64__)
	ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.orig_rax), -1L);
#elif defined(__aarch64__)
	int none = -1;
	struct iovec data = {&none, sizeof(none)};
	ptrace(PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &data);
#else
#error "which register has the number of a system call here, and which its result?"
#endif
}

static void set_result(pid_t pid, long result)
{
#if defined(__x86_64__)
	ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.rax), result);
#else
	struct user_regs_struct registers;
	struct iovec data = {&registers, sizeof(registers)};
	ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &data);
	registers.regs[0] = result;
	ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &data);
#endif
}

// After this, the calling process and its children stop at each call of this number.
static void stop_at(unsigned int call)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(rules) / sizeof(*rules), rules};
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program))
		_exit(125);
}

int main(int argc, char **argv)
{
	if (argc < 6)
		return 125;
	int process = atoi(argv[1]), error = atoi(argv[4]);
	unsigned int call = strtoul(argv[2], NULL, 10);
	long left = atol(argv[3]);
	cpu_set_t here;
	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	sched_setaffinity(0, sizeof(here), &here);
	pid_t first = fork();
	if (!first) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		stop_at(call);
		execvp(argv[5], argv + 5);
		_exit(127);
	}
	number_of(first);
	left += !process && call == SYS_execve; // its first one is the command
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	waitpid(first, NULL, 0);
	ptrace(PTRACE_SETOPTIONS, first, 0,
	       PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
		       PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
	ptrace(PTRACE_CONT, first, 0, 0);

	int status, answer = 0, is_done = 0;
	for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
		if (!WIFSTOPPED(status)) {
			if (pid == first)
				answer = status;
			continue;
		}
		int signal = WSTOPSIG(status), event = status >> 16, to_its_end = 0;
		if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
			unsigned long child;
			ptrace(PTRACE_GETEVENTMSG, pid, 0, &child);
			number_of(child);
		}
		int is_new = number_of(pid) == known - 1 && signal == SIGSTOP && !event;
		if (event == PTRACE_EVENT_SECCOMP && !is_done && number_of(pid) == process && !--left) {
			is_done = 1;
			to_its_end = error && call == SYS_close; // close(2): one that fails has closed
			if (!to_its_end) {
				skip_call(pid);
				set_result(pid, -error);
			}
			if (!error)
				kill(pid, SIGKILL);
		} else if (signal == (SIGTRAP | 0x80)) {
			set_result(pid, -error);
			signal = 0;
		}
		if (event || is_new || signal == SIGTRAP)
			signal = 0;
		ptrace(to_its_end ? PTRACE_SYSCALL : PTRACE_CONT, pid, 0, signal);
	}
	if (is_done && WIFSIGNALED(answer)) {
		signal(WTERMSIG(answer), SIG_DFL);
		raise(WTERMSIG(answer));
	}
	return is_done ? WEXITSTATUS(answer) : 124;
}
