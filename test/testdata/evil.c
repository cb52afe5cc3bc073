/* Writes down who loads it, by LD_PRELOAD or LD_AUDIT. LOG is a file. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void field(const char *status, const char *name, char *out) {
	const char *at = strstr(status, name);
	sscanf(at ? at + strlen(name) : "none", " %60s", out);
}

static void tell(const char *by) {
	char exe[300] = "?", mnt[80] = "?", status[4096] = "", caps[64], privs[64], seccomp[64], line[700];
	int fd = open("/proc/self/status", O_RDONLY);
	if (fd >= 0) {
		read(fd, status, sizeof status - 1);
		close(fd);
	}
	exe[readlink("/proc/self/exe", exe, sizeof exe - 1) > 0 ? strcspn(exe, "\n") : 0] = 0;
	mnt[readlink("/proc/self/ns/mnt", mnt, sizeof mnt - 1) > 0 ? strcspn(mnt, "\n") : 0] = 0;
	field(status, "CapEff:", caps);
	field(status, "NoNewPrivs:", privs);
	field(status, "Seccomp:", seccomp);
	int n = snprintf(line, sizeof line, "%s %s %s %s %s %s\n", by, exe, mnt, caps, privs, seccomp);
	fd = open(LOG, O_WRONLY | O_CREAT | O_APPEND, 0666);
	if (fd >= 0) {
		write(fd, line, n);
		close(fd);
	}
}

__attribute__((constructor)) static void preloaded(void) { tell("preload"); }

unsigned la_version(unsigned v) {
	tell("audit");
	return v;
}
