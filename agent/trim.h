/*
 * trim.h - gives back what only the start of the agent needed.
 *
 * Decides nothing about when.  Called by main once the agent runs.
 */
#ifndef A67_AGENT_TRIM_H
#define A67_AGENT_TRIM_H

/*
 * Unmaps the pages of program and library code that were touched so far, and returns free heap to the
 * system.  What is used again comes back from the page cache, page by page.  Changes nothing but memory.
 */
void a67_memory_trim(void);

#endif /* A67_AGENT_TRIM_H */
