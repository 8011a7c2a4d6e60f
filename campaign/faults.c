/* Lets file operations fail, stop short or end the process, and records what reached the disk.
 *
 * Loaded by LD_PRELOAD. A plan says what happens; it comes from the variable FAULTS, or later by
 * faults_arm(). It is a list of KEY=VALUE, separated by newlines:
 *
 *   path    only files at or below this folder count
 *   ops     kinds that count: o open to write, w write, s sync of a file, d sync of a folder,
 *           r rename, u unlink, m mkdir, t truncate
 *   nth     the operation, from 1 on, at which it happens; 0 never, operations are counted only
 *   errno   the operation fails with this number
 *   short   1: a write writes half of its bytes, and says so
 *   kill    1: the process is killed before the operation; 2: after it
 *   sticky  1: all later operations of these kinds fail, too
 *   clock   seconds by which the clock of the day is set forward, or back
 *   log     folder that gets `operations` and what files held when they were synced
 *
 * Children inherit plan and count when they are forked.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static struct {
    char path[PATH_MAX], ops[16], log[PATH_MAX];
    long nth, error, cut, kill, sticky, clock;
} plan;
static long counted, synced;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void read_field(char *line) {
    char *value = strchr(line, '=');
    if (!value) return;
    *value++ = 0;
    if (!strcmp(line, "path")) snprintf(plan.path, sizeof plan.path, "%s", value);
    else if (!strcmp(line, "ops")) snprintf(plan.ops, sizeof plan.ops, "%s", value);
    else if (!strcmp(line, "log")) snprintf(plan.log, sizeof plan.log, "%s", value);
    else if (!strcmp(line, "nth")) plan.nth = atol(value);
    else if (!strcmp(line, "errno")) plan.error = atol(value);
    else if (!strcmp(line, "short")) plan.cut = atol(value);
    else if (!strcmp(line, "kill")) plan.kill = atol(value);
    else if (!strcmp(line, "sticky")) plan.sticky = atol(value);
    else if (!strcmp(line, "clock")) plan.clock = atol(value);
}

void faults_arm(const char *text) {
    pthread_mutex_lock(&lock);
    memset(&plan, 0, sizeof plan);
    counted = synced = 0;
    char *copy = strdup(text), *rest = copy, *line;
    while ((line = strsep(&rest, "\n"))) read_field(line);
    free(copy);
    pthread_mutex_unlock(&lock);
}

long faults_counted(void) { return counted; }

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("FAULTS");
    if (text) faults_arm(text);
}

/* -- which files count ---------------------------------------------------------------------- */

static int absolute(int folder, const char *path, char *out) {
    char base[PATH_MAX] = "", link[64];
    if (path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t size = readlink(link, base, sizeof base - 1);
            if (size < 0) return 0;
            base[size] = 0;
        }
    }
    return snprintf(out, PATH_MAX, "%s%s%s", base, base[0] ? "/" : "", path) < PATH_MAX;
}

static int path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, out, PATH_MAX - 1);
    if (size <= 0) return 0;
    out[size] = 0;
    return out[0] == '/';
}

static int inside(const char *path) {
    size_t size = strlen(plan.path);
    return size && !strncmp(path, plan.path, size) && (path[size] == '/' || !path[size]);
}

/* -- what happens --------------------------------------------------------------------------- */

enum { GO_ON, FAIL, SHORT, KILL_AFTER };

static int decide(char op, const char *path) {
    if (!plan.path[0] || !strchr(plan.ops, op) || !inside(path)) return GO_ON;
    long number = __sync_add_and_fetch(&counted, 1);
    if (!plan.nth || number < plan.nth || (number > plan.nth && !plan.sticky)) return GO_ON;
    if (plan.kill == 1) kill(getpid(), SIGKILL);
    if (plan.kill == 2) return KILL_AFTER;
    if (plan.cut) return op == 'w' ? SHORT : GO_ON;
    errno = plan.error;
    return plan.error ? FAIL : GO_ON;
}

static void done(int what) {
    if (what == KILL_AFTER) kill(getpid(), SIGKILL);
}

static unsigned long inode(const char *path) {
    struct stat about;
    return lstat(path, &about) ? 0 : (unsigned long)about.st_ino;
}

static void note(const char *op, unsigned long node, const char *path, const char *other) {
    if (!plan.log[0] || (!inside(path) && !inside(other))) return;
    int kept = errno;
    char name[PATH_MAX + 16], line[2 * PATH_MAX + 64];
    snprintf(name, sizeof name, "%s/operations", plan.log);
    int size = snprintf(line, sizeof line, "%s\t%lu\t%ld\t%s\t%s\n", op, node, synced, path, other);
    int fd = REAL(open)(name, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) {
        (void)!REAL(write)(fd, line, size);
        REAL(close)(fd);
    }
    errno = kept;
}

static void keep_content(int fd, unsigned long node, const char *path) {
    char from[64], to[PATH_MAX + 32], block[1 << 16];
    if (!plan.log[0] || !inside(path)) return;
    pthread_mutex_lock(&lock);
    synced++;
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    snprintf(to, sizeof to, "%s/%ld", plan.log, synced);
    int in = REAL(open)(from, O_RDONLY), out = REAL(open)(to, O_WRONLY | O_CREAT, 0600);
    ssize_t size;
    while (in >= 0 && out >= 0 && (size = read(in, block, sizeof block)) > 0)
        (void)!REAL(write)(out, block, size);
    REAL(close)(in);
    REAL(close)(out);
    note("sync", node, path, "");
    pthread_mutex_unlock(&lock);
}

/* -- open ----------------------------------------------------------------------------------- */

static int opened(int (*go)(int, const char *, int, mode_t), int folder, const char *path,
                  int flags, mode_t mode) {
    char whole[PATH_MAX];
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
    if (!writes || !plan.path[0] || !absolute(folder, path, whole) || !inside(whole))
        return go(folder, path, flags, mode);
    int is_new = (flags & O_CREAT) && !inode(whole), what = decide('o', whole);
    if (what == FAIL) return -1;
    int fd = go(folder, path, flags, mode);
    if (fd >= 0 && is_new) note("create", inode(whole), whole, "");
    done(what);
    return fd;
}

static int go_open(int folder, const char *path, int flags, mode_t mode) {
    return REAL(openat)(folder, path, flags, mode);
}

#define MODE(flags)                                                                               \
    mode_t mode = 0;                                                                              \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                      \
        va_list rest;                                                                             \
        va_start(rest, flags);                                                                    \
        mode = va_arg(rest, mode_t);                                                              \
        va_end(rest);                                                                             \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opened(go_open, AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return opened(go_open, AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opened(go_open, folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opened(go_open, folder, path, flags, mode);
}

/* -- write ---------------------------------------------------------------------------------- */

static int before_write(int fd, size_t *size) {
    char path[PATH_MAX];
    if (!plan.path[0] || !path_of(fd, path) || !inside(path)) return GO_ON;
    int what = decide('w', path);
    if (what == SHORT) *size = *size > 1 ? *size / 2 : *size;
    return what;
}

#define WRITES(type, fd, size, call)                                                              \
    size_t left = size;                                                                           \
    int what = before_write(fd, &left);                                                           \
    if (what == FAIL) return -1;                                                                  \
    type result = call;                                                                           \
    done(what);                                                                                   \
    return result;

ssize_t write(int fd, const void *data, size_t size) {
    WRITES(ssize_t, fd, size, REAL(write)(fd, data, left))
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    WRITES(ssize_t, fd, size, REAL(pwrite)(fd, data, left, at))
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    WRITES(ssize_t, fd, size, REAL(pwrite64)(fd, data, left, at))
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    size_t left = 2;
    int what = before_write(fd, &left);
    if (what == FAIL) return -1;
    ssize_t result = what == SHORT ? REAL(write)(fd, parts->iov_base, (parts->iov_len + 1) / 2)
                                   : REAL(writev)(fd, parts, count);
    done(what);
    return result;
}

/* The C library writes buffered files by itself: NumPy's arrays go this way. */
size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    size_t left = count;
    int what = before_write(fileno(file), &left);
    if (what == FAIL) return 0;
    size_t result = REAL(fwrite)(data, size, left, file);
    if (what == SHORT) errno = ENOSPC;
    done(what);
    return result;
}

int ftruncate(int fd, off_t size) {
    char path[PATH_MAX];
    int what = plan.path[0] && path_of(fd, path) ? decide('t', path) : GO_ON;
    if (what == FAIL) return -1;
    int result = REAL(ftruncate)(fd, size);
    done(what);
    return result;
}

/* -- sync ----------------------------------------------------------------------------------- */

static int sync_by(int (*go)(int), int fd) {
    char path[PATH_MAX];
    struct stat about;
    if (!plan.path[0] || !path_of(fd, path) || !inside(path) || fstat(fd, &about)) return go(fd);
    int folder = S_ISDIR(about.st_mode), what = decide(folder ? 'd' : 's', path);
    if (what == FAIL) return -1;
    int result = go(fd);
    if (!result && folder) note("sync-folder", about.st_ino, path, "");
    if (!result && !folder) keep_content(fd, about.st_ino, path);
    done(what);
    return result;
}

int fsync(int fd) { return sync_by(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_by(REAL(fdatasync), fd); }

/* -- names ---------------------------------------------------------------------------------- */

static int renamed(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    char one[PATH_MAX], other[PATH_MAX];
    int known = plan.path[0] && absolute(from_folder, from, one) && absolute(to_folder, to, other);
    int what = known ? decide('r', other) : GO_ON;
    if (what == FAIL) return -1;
    unsigned long node = known ? inode(one) : 0;
    int result = flags ? REAL(renameat2)(from_folder, from, to_folder, to, flags)
                       : REAL(renameat)(from_folder, from, to_folder, to);
    if (!result && known) note("rename", node, one, other);
    done(what);
    return result;
}

int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return renamed(a, from, b, to, flags);
}

static int named(char op, const char *word, int folder, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    int known = plan.path[0] && absolute(folder, path, whole);
    int what = known ? decide(op, whole) : GO_ON;
    if (what == FAIL) return -1;
    int result = op == 'u' ? REAL(unlinkat)(folder, path, flags) : REAL(mkdirat)(folder, path, mode);
    if (!result && known) note(word, op == 'm' ? inode(whole) : 0, whole, "");
    done(what);
    return result;
}

int unlink(const char *path) { return named('u', "unlink", AT_FDCWD, path, 0, 0); }
int rmdir(const char *path) { return named('u', "unlink", AT_FDCWD, path, AT_REMOVEDIR, 0); }
int unlinkat(int folder, const char *path, int flags) {
    return named('u', "unlink", folder, path, flags, 0);
}
int mkdir(const char *path, mode_t mode) { return named('m', "mkdir", AT_FDCWD, path, 0, mode); }
int mkdirat(int folder, const char *path, mode_t mode) {
    return named('m', "mkdir", folder, path, 0, mode);
}

/* -- the clock of the day ------------------------------------------------------------------- */

int clock_gettime(clockid_t which, struct timespec *now) {
    int result = REAL(clock_gettime)(which, now);
    if (which == CLOCK_REALTIME) now->tv_sec += plan.clock;
    return result;
}
time_t time(time_t *out) {
    time_t now = REAL(time)(NULL) + plan.clock;
    if (out) *out = now;
    return now;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = REAL(gettimeofday)(now, zone);
    now->tv_sec += plan.clock;
    return result;
}
