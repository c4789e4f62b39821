-- safe because: tables are only added; the release before never reads or writes them.
--
-- webhooks.position: every event up to it has become deliveries of this webhook (or was not wanted); webhooks.state is
-- how deliveries go, no part of the etag. webhook_secrets: version 0 holds the values of the extra headers, the others
-- are signing secrets, the highest being the current one. deliveries: one row for each event and part that one webhook
-- wants; next_attempt_time is NULL while an earlier delivery of the same subject is not over. leases: who does what only
-- one replica may do.

CREATE TABLE webhooks (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    uid         TEXT COLLATE "C" NOT NULL,
    rev         BIGINT NOT NULL,
    body        BYTEA NOT NULL,
    state       INTEGER NOT NULL,
    position    BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);
CREATE UNIQUE INDEX webhooks_uid ON webhooks (uid);

CREATE TABLE webhook_secrets (
    webhook     TEXT COLLATE "C" NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    version     BIGINT NOT NULL,
    key_id      TEXT COLLATE "C" NOT NULL,
    sealed      BYTEA NOT NULL,
    expire_time BIGINT,
    PRIMARY KEY (webhook, version)
);

CREATE TABLE deliveries (
    id                TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    webhook           TEXT COLLATE "C" NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_seq         BIGINT NOT NULL,
    part              INTEGER NOT NULL,
    event_id          TEXT COLLATE "C" NOT NULL,
    event_type        TEXT COLLATE "C" NOT NULL,
    subject           TEXT COLLATE "C" NOT NULL,
    event_time        BIGINT NOT NULL,
    state             INTEGER NOT NULL,
    attempt           BIGINT NOT NULL,
    http_status       INTEGER NOT NULL,
    error             TEXT COLLATE "C" NOT NULL,
    next_attempt_time BIGINT,
    answer_time       BIGINT,
    create_time       BIGINT NOT NULL
);
CREATE INDEX deliveries_webhook ON deliveries (webhook, state, id);
CREATE INDEX deliveries_subject ON deliveries (webhook, subject, state, event_seq, part);
CREATE INDEX deliveries_due ON deliveries (state, next_attempt_time);

CREATE TABLE leases (
    name   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    holder TEXT COLLATE "C" NOT NULL,
    until  BIGINT NOT NULL
);
