/* Takes all processes or threads that there are, or leaves as many dead ones as it can, and holds them. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

static void *rest(void *arg) {
	for (;;) pause();
}

static int hold(const char *what, int n) {
	printf("no more %s: %d, %s\n", what, n, strerror(errno));
	fflush(stdout);
	for (;;) pause();
}

int main(int argc, char **argv) {
	const char *what = argv[1];
	int n = 0;
	if (!strcmp(what, "processes")) {
		for (pid_t p; (p = fork()) >= 0; n++)
			if (p == 0) rest(0);
	} else if (!strcmp(what, "threads")) {
		pthread_attr_t small;
		pthread_t t;
		pthread_attr_init(&small);
		pthread_attr_setstacksize(&small, 16384);
		for (; (errno = pthread_create(&t, &small, rest, 0)) == 0; n++);
	} else if (!strcmp(what, "zombies")) { /* half of them are the init's */
		for (pid_t p; n < 6000 && (p = fork()) >= 0; n++) {
			if (p == 0) {
				if (n % 2) _exit(0);
				fork();
				_exit(0);
			}
			if (n % 2 == 0) waitpid(p, 0, 0);
		}
	} else if (!strcmp(what, "descriptors")) {
		struct rlimit most;
		getrlimit(RLIMIT_NOFILE, &most);
		most.rlim_cur = most.rlim_max;
		setrlimit(RLIMIT_NOFILE, &most);
		for (; open("/dev/null", O_RDONLY) >= 0; n++);
	} else if (!strcmp(what, "stopped")) { /* nothing that can be caught is heard, all stand still */
		for (int s = 1; s < 32; s++) signal(s, SIG_IGN);
		for (; n < 20; n++)
			if (fork() == 0) {
				setsid();
				if (fork() > 0) _exit(0);
				for (;;) raise(SIGSTOP);
			}
		printf("no more %s: %d\n", what, n);
		fflush(stdout);
		for (;;) raise(SIGSTOP);
	}
	return hold(what, n);
}
