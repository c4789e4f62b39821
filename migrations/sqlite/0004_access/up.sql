-- safe because: a table is added; the release before knows no tokens and lets nobody in from afar.
--
-- The token itself is nowhere: hash is its SHA-256, body the resource without it. expire_time NULL is never,
-- last_used_time is to the minute.

CREATE TABLE tokens (
    id             TEXT NOT NULL PRIMARY KEY,
    hash           BLOB NOT NULL,
    body           BLOB NOT NULL,
    expire_time    BIGINT,
    last_used_time BIGINT,
    create_time    BIGINT NOT NULL
);
CREATE UNIQUE INDEX tokens_hash ON tokens (hash);
