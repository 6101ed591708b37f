// Answers the seccomp fuzzer (src/seccomp/libseccomp.rs) over its standard streams: what number a name has, and what program
// libseccomp makes of a filter. In: `name ARCH NAME`; `begin DEFAULT`, `arch ARCH`, `rule ACTION NAME COUNT [INDEX OP A B]...`,
// `end`. Out: a number and a newline; for a filter the number of bytes, or less than 0 if the library refused, then the bytes.
// The library does not end on some filters: after a second of work this process is killed, and another is asked.
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

static scmp_filter_ctx filter;
static int refused;

static void fail(const char *what) {
	perror(what);
	exit(1);
}

// As runc: a name that is unknown here is left out.
static void rule(char *line) {
	struct scmp_arg_cmp args[6];
	char name[128];
	uint32_t action;
	unsigned count, used = 0;
	if (sscanf(line, "rule %" SCNu32 " %127s %u%n", &action, name, &count, (int *)&used) != 3 || count > 6) fail(line);
	for (unsigned n = 0; n < count; n++) {
		unsigned index, op, more = 0;
		uint64_t a, b;
		if (sscanf(line + used, " %u %u %" SCNu64 " %" SCNu64 "%n", &index, &op, &a, &b, (int *)&more) != 4) fail(line);
		args[n] = (struct scmp_arg_cmp){.arg = index, .op = op, .datum_a = a, .datum_b = b};
		used += more;
	}
	int number = seccomp_syscall_resolve_name(name);
	if (number == __NR_SCMP_ERROR) return;
	int status = seccomp_rule_add_array(filter, action, number, count, count ? args : NULL);
	if (status < 0) refused = status;
}

static void end(void) {
	int file = memfd_create("program", 0);
	if (file < 0) fail("memfd_create");
	int status = refused ? refused : seccomp_export_bpf(filter, file);
	off_t length = status < 0 ? status : lseek(file, 0, SEEK_END);
	printf("%lld\n", (long long)length);
	if (length > 0) {
		char *bytes = malloc(length);
		if (!bytes || pread(file, bytes, length, 0) != length) fail("read the program");
		fwrite(bytes, 1, length, stdout);
		free(bytes);
	}
	close(file);
	seccomp_release(filter);
	filter = NULL;
}

static void work(int seconds) {
	struct itimerval limit = {.it_value = {.tv_sec = seconds}};
	setitimer(ITIMER_PROF, &limit, NULL);
}

int main(void) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	char *line = NULL, name[128];
	size_t size = 0;
	uint32_t number;
	// The newest that the library knows, whatever this kernel does.
	for (unsigned level = 20; level > 0 && seccomp_api_set(level) < 0; level--) {}
	while (getline(&line, &size, stdin) > 0) {
		if (sscanf(line, "name %" SCNu32 " %127s", &number, name) == 2) {
			printf("%d\n", seccomp_syscall_resolve_name_arch(number, name));
		} else if (sscanf(line, "begin %" SCNu32, &number) == 1) {
			work(1);
			filter = seccomp_init(number);
			refused = filter ? 0 : -EINVAL;
		} else if (!strncmp(line, "end", 3)) {
			end();
			work(0);
		} else if (filter && sscanf(line, "arch %" SCNu32, &number) == 1) {
			int status = seccomp_arch_add(filter, number);
			if (status < 0 && status != -EEXIST) refused = status;
		} else if (filter && !strncmp(line, "rule ", 5)) {
			rule(line);
		}
		fflush(stdout);
	}
	return 0;
}
