// tracer traces every process of its user's that starts, as soon as it can: it tries the pids that come next, in a busy loop,
// and says which it has got. It lets each go again at once.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

// last is the newest pid of this namespace: the last word of /proc/loadavg.
static int last(void) {
  static int fd = -1;
  char text[256];
  if (fd < 0) fd = open("/proc/loadavg", O_RDONLY);
  ssize_t n = pread(fd, text, sizeof text - 1, 0);
  if (n <= 0) exit(1);
  text[n] = 0;
  return atoi(strrchr(text, ' ') + 1);
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  puts("listening");
  for (int from = last();;) {
    int newest = last();
    for (int pid = newest > from + 64 ? newest - 64 : from - 8; pid <= newest + 8; pid++)
      if (pid > 1 && pid != getpid() && ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
        printf("traced %d\n", pid);
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        waitpid(pid, 0, __WALL);
        ptrace(PTRACE_DETACH, pid, 0, 0);
      }
    from = newest;
  }
}
