-- safe because: tables are only added; the release before never reads or writes them.
--
-- deletions: a recording that somebody wants gone, or that is: what its nodes bring later is refused, and with objects
-- deleted as well. next_time is when to go on, NULL when nothing is left. deletion_objects: what is still to be deleted;
-- kind 0 is a single object, 1 a playlist with its segments, 2 a manifest. blocks: streams that nobody may publish until
-- then.

CREATE TABLE deletions (
    recording    TEXT NOT NULL PRIMARY KEY,
    objects      BOOLEAN NOT NULL,
    attempts     BIGINT NOT NULL,
    next_time    BIGINT,
    last_error   BLOB,
    request_time BIGINT NOT NULL
);
CREATE INDEX deletions_next_time ON deletions (next_time);

CREATE TABLE deletion_objects (
    recording  TEXT NOT NULL REFERENCES deletions (recording) ON DELETE CASCADE,
    storage    TEXT NOT NULL,
    object_key TEXT NOT NULL,
    kind       INTEGER NOT NULL,
    PRIMARY KEY (recording, storage, object_key)
);
CREATE INDEX deletion_objects_storage ON deletion_objects (storage);

CREATE TABLE blocks (
    domain TEXT NOT NULL,
    app    TEXT NOT NULL,
    stream TEXT NOT NULL,
    until  BIGINT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (domain, app, stream)
);
CREATE INDEX blocks_until ON blocks (until);
