/*
 * static.h - the static runtime: our own program as a server of the files of one directory.
 *
 * Started like any application, with its user, its limits and nothing of the agent; serves GET and HEAD
 * on PORT until SIGTERM, then ends what it has begun to send.  Called by main().
 */
#ifndef A67_AGENT_STATIC_H
#define A67_AGENT_STATIC_H

#define A67_STATIC_NAME "a67-static" /* argv[0]; argv[1] is the directory */

/* The server's main().  Returns the exit status. */
int a67_static_main(char **argv);

#endif /* A67_AGENT_STATIC_H */
