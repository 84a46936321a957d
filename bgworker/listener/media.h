/*
 * media.h: what a request says about media: the type of its body, and the codings it takes in return.
 *
 * Pure: reads a parsed head, decides nothing beyond it. Called by service.c and job.c inside the engine's
 * callbacks.
 */
#ifndef A67_LISTENER_MEDIA_H
#define A67_LISTENER_MEDIA_H

#include "core/http/parser.h"

/* Whether the body may be read as JSON: by its Content-Type, or because it has none, and not encoded. */
extern bool a67_media_is_json(const A67HttpHead *head);

/* Whether Accept-Encoding allows gzip; without that header, no. */
extern bool a67_media_takes_gzip(const A67HttpHead *head);

#endif
