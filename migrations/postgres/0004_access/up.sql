-- safe because: a table is added; the release before knows no tokens and lets nobody in from afar.
--
-- The token itself is nowhere: hash is its SHA-256, body the resource without it. expire_time NULL is never,
-- last_used_time is to the minute.

CREATE TABLE tokens (
    id             TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    hash           BYTEA NOT NULL,
    body           BYTEA NOT NULL,
    expire_time    BIGINT,
    last_used_time BIGINT,
    create_time    BIGINT NOT NULL
);
CREATE UNIQUE INDEX tokens_hash ON tokens (hash);
