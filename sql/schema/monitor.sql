-- What the monitor knows of itself: when it last looked, and whether it trusts what it sees.

CREATE TABLE a67_internal.monitor_state (
    only_row boolean PRIMARY KEY DEFAULT true,
    planned_at timestamptz,
    blind interval NOT NULL DEFAULT '0',
    blind_until timestamptz NOT NULL DEFAULT '-infinity',
    doubt_kind text,
    doubt_until timestamptz NOT NULL DEFAULT '-infinity',
    silence_seen boolean NOT NULL DEFAULT false,
    CONSTRAINT monitor_state_only_row_check CHECK (only_row),
    CONSTRAINT monitor_state_doubt_kind_check CHECK (doubt_kind IN ('late', 'silence'))
) WITH (fillfactor = 50);
COMMENT ON TABLE a67_internal.monitor_state IS 'One row: the monitor''s own clock and its doubt of itself; written by its plans';
COMMENT ON COLUMN a67_internal.monitor_state.planned_at IS 'The last plan; a gap after it is time in which nothing could be heard';
COMMENT ON COLUMN a67_internal.monitor_state.blind IS 'Time that does not count against a silent node, until blind_until';
COMMENT ON COLUMN a67_internal.monitor_state.doubt_kind IS 'Why the monitor takes itself for the one cut off; NULL: it does not';
COMMENT ON COLUMN a67_internal.monitor_state.doubt_until IS 'Until then no node becomes failed';
COMMENT ON COLUMN a67_internal.monitor_state.silence_seen IS 'This silence of many nodes has had its period of grace';
INSERT INTO a67_internal.monitor_state DEFAULT VALUES;

ALTER TABLE a67_internal.monitor_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE a67_internal.monitor_state FORCE ROW LEVEL SECURITY;
