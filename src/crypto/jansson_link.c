/*
 * jansson_link.c - lets Debian's libjansson.a become part of a shared library.
 *
 * jansson must be linked from its archive: the server exports a json_object() of its own, which the shared
 * libjansson would call instead of its own. The archive is built for executables, and one place in it,
 * json_loadf() comparing its argument with stdin, cannot be relocated in a shared library unless the symbol
 * is in that library too. So here is one, private to a67.so; nothing in it calls json_loadf(), and files
 * that include stdio.h do not see it. No header is included, because it would declare the real one.
 */

extern void *stdin;

__attribute__((visibility("hidden"))) void *stdin;
