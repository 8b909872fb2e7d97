/* SPDX-License-Identifier: Apache-2.0 */
/* What Debian's libcheck.a, compiled for glibc with _FORTIFY_SOURCE, calls and musl does not have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

int __fprintf_chk(FILE *file, int flag, const char *format, ...)
{
    va_list arguments;
    (void)flag;
    va_start(arguments, format);
    const int size = vfprintf(file, format, arguments);
    va_end(arguments);
    return size;
}
int __vfprintf_chk(FILE *file, int flag, const char *format, va_list arguments)
{
    (void)flag;
    return vfprintf(file, format, arguments);
}
int __vsnprintf_chk(char *text, size_t room, int flag, size_t size, const char *format, va_list arguments)
{
    (void)flag, (void)size;
    return vsnprintf(text, room, format, arguments);
}
int __snprintf_chk(char *text, size_t room, int flag, size_t known, const char *format, ...)
{
    va_list arguments;
    (void)flag, (void)known;
    va_start(arguments, format);
    const int size = vsnprintf(text, room, format, arguments);
    va_end(arguments);
    return size;
}
_Noreturn void __longjmp_chk(jmp_buf to, int value)
{
    longjmp(to, value);
}
void __pthread_register_cancel(void *frame)
{
    (void)frame;
}
void __pthread_unregister_cancel(void *frame)
{
    (void)frame;
}
int __printf_chk(int flag, const char *format, ...)
{
    va_list arguments;
    (void)flag;
    va_start(arguments, format);
    const int size = vprintf(format, arguments);
    va_end(arguments);
    return size;
}
