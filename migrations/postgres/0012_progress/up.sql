-- safe because: a table is only added; the release before never reads or writes it.
--
-- node_progress: how far the recordings of a node are, as its newest heartbeat with news said: one row per node, whatever
-- it records. Nothing depends on it: facts tell what counts.

CREATE TABLE node_progress (
    node        TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    body        BYTEA NOT NULL,
    update_time BIGINT NOT NULL
);
