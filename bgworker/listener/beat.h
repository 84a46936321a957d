/*
 * beat.h: reading the body of a heartbeat.
 *
 * Called by service.c inside the engine's callbacks. Apart from the rest because its JSON library and
 * PostgreSQL's headers share names; pure, so that tests and fuzzers can compare its two readers.
 */
#ifndef A67_LISTENER_BEAT_H
#define A67_LISTENER_BEAT_H

#include "core/beat.h"

/*
 * Fills *beat from the JSON text. False when the text is anything but an everyday heartbeat: malformed,
 * with a field that is not known, too long for the live table, or a farewell. SQL judges those.
 */
extern bool a67_beat_parse(const char *text, size_t len, A67Beat *beat);

/* The same by the complete reader alone, which a67_beat_parse spares the usual beats. */
extern bool a67_beat_read(const char *text, size_t len, A67Beat *beat);

#endif
