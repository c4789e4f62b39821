-- safe because: the database is empty; nothing reads these tables yet.
--
-- Conventions of both dialects: ids are TEXT, times BIGINT microseconds since 1970-01-01T00:00:00Z, resource bodies
-- prost-encoded BLOBs (columns exist only for what is filtered or sorted), `rev` counts the changes of a row (the etag),
-- `uid` is a ULID minted at creation (newest-first order), sealed BLOBs are the only place where secrets are kept.

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
);

CREATE TABLE counters (
    name  TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE storages (
    id                 TEXT NOT NULL PRIMARY KEY,
    uid                TEXT NOT NULL,
    rev                BIGINT NOT NULL,
    is_default         BOOLEAN NOT NULL,
    backup             TEXT REFERENCES storages (id),
    credential_version BIGINT NOT NULL,
    body               BLOB NOT NULL,
    state              INTEGER NOT NULL,
    last_error         BLOB,
    last_success_time  BIGINT,
    create_time        BIGINT NOT NULL,
    update_time        BIGINT NOT NULL
);
CREATE UNIQUE INDEX storages_uid ON storages (uid);
CREATE UNIQUE INDEX storages_default ON storages (is_default) WHERE is_default;

CREATE TABLE storage_credentials (
    storage TEXT NOT NULL REFERENCES storages (id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    key_id  TEXT NOT NULL,
    sealed  BLOB NOT NULL,
    PRIMARY KEY (storage, version)
);

CREATE TABLE templates (
    id          TEXT NOT NULL PRIMARY KEY,
    uid         TEXT NOT NULL,
    rev         BIGINT NOT NULL,
    revision    BIGINT NOT NULL,
    storage     TEXT REFERENCES storages (id),
    body        BLOB NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);
CREATE UNIQUE INDEX templates_uid ON templates (uid);
CREATE INDEX templates_storage ON templates (storage);

CREATE TABLE template_revisions (
    template    TEXT NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    revision    BIGINT NOT NULL,
    body        BLOB NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (template, revision)
);

CREATE TABLE domains (
    id          TEXT NOT NULL PRIMARY KEY,
    uid         TEXT NOT NULL,
    rev         BIGINT NOT NULL,
    body        BLOB NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);
CREATE UNIQUE INDEX domains_uid ON domains (uid);

CREATE TABLE domain_keys (
    domain TEXT NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    slot   TEXT NOT NULL,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (domain, slot)
);

CREATE TABLE bindings (
    domain      TEXT NOT NULL REFERENCES domains (id),
    app         TEXT NOT NULL,
    template    TEXT NOT NULL REFERENCES templates (id),
    uid         TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (domain, app, template)
);
CREATE UNIQUE INDEX bindings_uid ON bindings (uid);
CREATE INDEX bindings_template ON bindings (template);

CREATE TABLE rules (
    id          TEXT NOT NULL PRIMARY KEY,
    uid         TEXT NOT NULL,
    rev         BIGINT NOT NULL,
    domain      TEXT NOT NULL REFERENCES domains (id),
    app         TEXT NOT NULL,
    stream      TEXT NOT NULL,
    template    TEXT REFERENCES templates (id),
    body        BLOB NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);
CREATE UNIQUE INDEX rules_uid ON rules (uid);
CREATE INDEX rules_domain ON rules (domain);
CREATE INDEX rules_template ON rules (template);

-- No references to templates, storages or nodes from here on: what was recorded outlives what it was recorded with.
CREATE TABLE recordings (
    id          TEXT NOT NULL PRIMARY KEY,
    rev         BIGINT NOT NULL,
    domain      TEXT NOT NULL,
    app         TEXT NOT NULL,
    stream      TEXT NOT NULL,
    state       INTEGER NOT NULL,
    epoch       BIGINT NOT NULL,
    node        TEXT NOT NULL,
    template    TEXT NOT NULL,
    storage     TEXT NOT NULL,
    task        TEXT,
    session     TEXT NOT NULL,
    start_time  BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    body        BLOB NOT NULL
);
CREATE INDEX recordings_stream ON recordings (domain, app, stream, id);
CREATE INDEX recordings_state ON recordings (state, id);
CREATE INDEX recordings_template ON recordings (template, id);
CREATE INDEX recordings_storage ON recordings (storage, id);
CREATE INDEX recordings_node ON recordings (node, id);
CREATE INDEX recordings_session ON recordings (session);

CREATE TABLE claims (
    claim_key   TEXT NOT NULL PRIMARY KEY,
    recording   TEXT NOT NULL REFERENCES recordings (id) ON DELETE CASCADE,
    epoch       BIGINT NOT NULL,
    node        TEXT NOT NULL,
    create_time BIGINT NOT NULL
);
CREATE INDEX claims_recording ON claims (recording);

CREATE TABLE files (
    recording   TEXT NOT NULL REFERENCES recordings (id) ON DELETE CASCADE,
    format      INTEGER NOT NULL,
    file_index  BIGINT NOT NULL,
    epoch       BIGINT NOT NULL,
    storage     TEXT NOT NULL,
    object_key  TEXT,
    state       INTEGER NOT NULL,
    rev         BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    body        BLOB NOT NULL,
    PRIMARY KEY (recording, format, file_index)
);
CREATE UNIQUE INDEX files_object_key ON files (object_key);
CREATE INDEX files_storage ON files (storage, state);

CREATE TABLE streams (
    session    TEXT NOT NULL PRIMARY KEY,
    rev        BIGINT NOT NULL,
    domain     TEXT NOT NULL,
    app        TEXT NOT NULL,
    stream     TEXT NOT NULL,
    node       TEXT NOT NULL,
    start_time BIGINT NOT NULL,
    end_time   BIGINT,
    body       BLOB NOT NULL
);
CREATE INDEX streams_name ON streams (domain, app, stream, session);
CREATE INDEX streams_node ON streams (node, end_time);

CREATE TABLE nodes (
    id              TEXT NOT NULL PRIMARY KEY,
    rev             BIGINT NOT NULL,
    epoch           BIGINT NOT NULL,
    boot_id         TEXT NOT NULL,
    lease_until     BIGINT NOT NULL,
    applied_version BIGINT NOT NULL,
    state           INTEGER NOT NULL,
    body            BLOB NOT NULL,
    create_time     BIGINT NOT NULL,
    update_time     BIGINT NOT NULL
);

-- What a node refused: one row per directive it could not apply, removed when it accepts a later version.
CREATE TABLE node_acks (
    node      TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    directive TEXT NOT NULL,
    version   BIGINT NOT NULL,
    error     BLOB NOT NULL,
    PRIMARY KEY (node, directive)
);
CREATE INDEX node_acks_directive ON node_acks (directive);

CREATE TABLE directives (
    name    TEXT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    body    BLOB NOT NULL
);
CREATE INDEX directives_version ON directives (version);

-- A row without a body is a tombstone.
CREATE TABLE directive_log (
    version BIGINT NOT NULL,
    name    TEXT NOT NULL,
    body    BLOB,
    time    BIGINT NOT NULL,
    PRIMARY KEY (version, name)
);

CREATE TABLE facts_seen (
    node        TEXT NOT NULL PRIMARY KEY,
    node_epoch  BIGINT NOT NULL,
    sequence    BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);

CREATE TABLE events (
    seq     BIGINT NOT NULL PRIMARY KEY,
    id      TEXT NOT NULL,
    type    TEXT NOT NULL,
    subject TEXT NOT NULL,
    time    BIGINT NOT NULL,
    body    BLOB NOT NULL
);
CREATE UNIQUE INDEX events_id ON events (id);
CREATE INDEX events_subject ON events (subject, seq);
CREATE INDEX events_time ON events (time);

CREATE TABLE idempotency (
    request_id  TEXT NOT NULL PRIMARY KEY,
    method      TEXT NOT NULL,
    body_hash   BLOB NOT NULL,
    reply       BLOB NOT NULL,
    expire_time BIGINT NOT NULL
);
CREATE INDEX idempotency_expire_time ON idempotency (expire_time);
