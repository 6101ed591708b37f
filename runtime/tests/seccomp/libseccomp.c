/* libseccomp [TURNS] (plain|tree): makes the filter of the rules on stdin as runc 1.4 does (libcontainer/seccomp, through
 * libseccomp-golang) and prints its program, one instruction per line: code, jt, jf, k, in hexadecimal. `tree` is with the
 * binary tree that runc asks for above 32 system calls. With TURNS it prints nothing but the median nanoseconds of one
 * making. What stands on stdin: libseccomp.rs beside this.
 * libseccomp names: prints every system call that the library knows: architecture, number, name.
 * The library is the one that the runc of `make oracles` loads. Its header is not there: what is used of it stands here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct scmp_arg_cmp {
	unsigned int arg;
	int op;
	uint64_t a, b;
};
struct instruction {
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};
void *seccomp_init(uint32_t action);
void seccomp_release(void *filter);
int seccomp_arch_add(void *filter, uint32_t arch);
int seccomp_arch_remove(void *filter, uint32_t arch);
int seccomp_attr_set(void *filter, int attribute, uint32_t value);
int seccomp_syscall_resolve_name(const char *name);
char *seccomp_syscall_resolve_num_arch(uint32_t arch, int number);
int seccomp_rule_add_array(void *filter, uint32_t action, int number, unsigned int count, const struct scmp_arg_cmp *args);
int seccomp_export_bpf_mem(void *filter, void *buffer, size_t *length);

enum { NNP = 3, TSYNC = 4, OPTIMIZE = 8 };
enum { EXISTS = 17, UNKNOWN = -1, MOST = 4096 };

/* SCMP_ARCH_*, and where the numbers of each begin. */
static const struct {
	const char *name;
	uint32_t token;
	int first;
} TABLES[] = {
	{ "x86_64", 0xc000003e, 0 },   { "x86", 0x40000003, 0 }, { "x32", 0x4000003e, 0x40000000 },
	{ "aarch64", 0xc00000b7, 0 }, { "arm", 0x40000028, 0 }, { "arm", 0x40000028, 0xf0000 },
};

static struct rule {
	uint32_t action;
	char name[64];
	unsigned int count;
	struct scmp_arg_cmp args[6];
} rules[MOST];
static size_t rule_count, arch_count;
static uint32_t fallback, archs[16], without;
static struct instruction program[1 << 16];

static void fail(const char *what, int error)
{
	fprintf(stderr, "libseccomp: %s: %d\n", what, error);
	exit(1);
}

static void check(const char *what, int error)
{
	if (error)
		fail(what, error);
}

static void read_rules(void)
{
	char word[64];
	while (scanf("%63s", word) == 1) {
		if (!strcmp(word, "default") && scanf("%" SCNx32, &fallback) == 1)
			continue;
		if (!strcmp(word, "without") && scanf("%" SCNx32, &without) == 1)
			continue;
		if (!strcmp(word, "arch") && arch_count < 16 && scanf("%" SCNx32, &archs[arch_count++]) == 1)
			continue;
		struct rule *rule = &rules[rule_count++];
		if (strcmp(word, "rule") || rule_count > MOST ||
		    scanf("%" SCNx32 " %63s %u", &rule->action, rule->name, &rule->count) != 3 || rule->count > 6)
			fail(word, 0);
		for (unsigned int i = 0; i < rule->count; i++) {
			struct scmp_arg_cmp *arg = &rule->args[i];
			if (scanf("%u %d %" SCNx64 " %" SCNx64, &arg->arg, &arg->op, &arg->a, &arg->b) != 4)
				fail(rule->name, 0);
		}
	}
}

/* Two conditions on one argument: each is a rule of its own. */
static void add(void *filter, const struct rule *rule)
{
	int number = seccomp_syscall_resolve_name(rule->name);
	unsigned int seen = 0, twice = 0;
	if (rule->action == fallback || number == UNKNOWN)
		return;
	for (unsigned int i = 0; i < rule->count; i++) {
		twice |= seen & 1 << rule->args[i].arg;
		seen |= 1 << rule->args[i].arg;
	}
	for (unsigned int i = 0; twice && i < rule->count; i++)
		check(rule->name, seccomp_rule_add_array(filter, rule->action, number, 1, &rule->args[i]));
	if (!twice)
		check(rule->name, seccomp_rule_add_array(filter, rule->action, number, rule->count, rule->args));
}

static size_t make(int tree)
{
	size_t length = sizeof(program);
	void *filter = seccomp_init(fallback);
	if (!filter)
		fail("seccomp_init", 0);
	check("TSYNC", seccomp_attr_set(filter, TSYNC, 1));
	for (size_t i = 0; i < arch_count; i++) {
		int error = seccomp_arch_add(filter, archs[i]);
		if (error != -EXISTS)
			check("seccomp_arch_add", error);
	}
	/* As if the library were another machine's: names have the same meaning everywhere. */
	if (without)
		check("seccomp_arch_remove", seccomp_arch_remove(filter, without));
	if (tree)
		check("OPTIMIZE", seccomp_attr_set(filter, OPTIMIZE, 2));
	check("NNP", seccomp_attr_set(filter, NNP, 0));
	for (size_t i = 0; i < rule_count; i++)
		add(filter, &rules[i]);
	check("seccomp_export_bpf_mem", seccomp_export_bpf_mem(filter, program, &length));
	seccomp_release(filter);
	return length / sizeof(program[0]);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static uint64_t now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

static uint64_t median_time(size_t turns, int tree)
{
	uint64_t *taken = calloc(turns, sizeof(*taken));
	if (!taken)
		fail("calloc", 0);
	for (size_t i = 0; i < turns; i++) {
		uint64_t start = now();
		make(tree);
		taken[i] = now() - start;
	}
	qsort(taken, turns, sizeof(*taken), ascending);
	return taken[turns / 2];
}

static void print_names(void)
{
	for (size_t i = 0; i < sizeof(TABLES) / sizeof(TABLES[0]); i++) {
		for (int number = TABLES[i].first; number < TABLES[i].first + 1024; number++) {
			char *name = seccomp_syscall_resolve_num_arch(TABLES[i].token, number);
			if (name)
				printf("%s %d %s\n", TABLES[i].name, number, name);
			free(name);
		}
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[argc - 1] : "";
	if (!strcmp(mode, "names")) {
		print_names();
		return 0;
	}
	read_rules();
	if (argc > 2) {
		printf("%" PRIu64 "\n", median_time(strtoul(argv[1], NULL, 10), !strcmp(mode, "tree")));
		return 0;
	}
	size_t count = make(!strcmp(mode, "tree"));
	for (size_t i = 0; i < count; i++)
		printf("%x %x %x %x\n", program[i].code, program[i].jt, program[i].jf, program[i].k);
	return 0;
}
