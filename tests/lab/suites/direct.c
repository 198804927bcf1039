/* Preloaded before a program (LD_PRELOAD), it opens every file it writes with O_DIRECT: for fsx, which cannot ask for that.
 * Over NFS, O_DIRECT needs no alignment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/types.h>

static int direct(const char *symbol, const char *path, int flags, mode_t mode)
{
	int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, symbol);

	if ((flags & O_ACCMODE) == O_RDWR)
		flags |= O_DIRECT;
	return next(path, flags, mode);
}

#define WRAP(symbol)                                                  \
	int symbol(const char *path, int flags, ...)                  \
	{                                                             \
		va_list args;                                         \
		mode_t mode;                                          \
                                                                      \
		va_start(args, flags);                                \
		mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0; \
		va_end(args);                                         \
		return direct(#symbol, path, flags, mode);            \
	}

WRAP(open)
WRAP(open64)
