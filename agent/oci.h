/*
 * oci.h - config.json of a container, as the OCI runtime specification 1.0 has it.
 *
 * Builds a document and nothing else; container.h says what is in it.  Called by container.c and tests.
 */
#ifndef A67_AGENT_OCI_H
#define A67_AGENT_OCI_H

#include <jansson.h>

#include "container.h"

/* A new document, or NULL when out of memory. */
json_t *a67_oci_config(const A67Container *container);

/* Of a process beside the application, as crun exec takes it. */
json_t *a67_oci_process(const A67Container *container);

#endif /* A67_AGENT_OCI_H */
