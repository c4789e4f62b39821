-- safe because: tables are added; what the release before recorded is entered at the first start of this one.
--
-- Nothing refers to recordings: what was used stays used when they are deleted. usage_channels.end_time is when the
-- channel is free again (end of the resume window included; NULL while it is recorded), body a Recording reduced to what
-- its recorded time is computed from; usage_outputs.start_time is the first frame of a format; usage_files are the files
-- that became available, by the epoch and index that their node calls them by.

CREATE TABLE usage_channels (
    recording  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    domain     TEXT COLLATE "C" NOT NULL,
    template   TEXT COLLATE "C" NOT NULL,
    start_time BIGINT NOT NULL,
    end_time   BIGINT,
    body       BYTEA NOT NULL
);
CREATE INDEX usage_channels_start_time ON usage_channels (start_time);
CREATE INDEX usage_channels_end_time ON usage_channels (end_time);

CREATE TABLE usage_outputs (
    recording  TEXT COLLATE "C" NOT NULL,
    format     INTEGER NOT NULL,
    start_time BIGINT NOT NULL,
    PRIMARY KEY (recording, format)
);

CREATE TABLE usage_files (
    recording       TEXT COLLATE "C" NOT NULL,
    format          INTEGER NOT NULL,
    epoch           BIGINT NOT NULL,
    epoch_index     BIGINT NOT NULL,
    domain          TEXT COLLATE "C" NOT NULL,
    available_time  BIGINT NOT NULL,
    size_bytes      BIGINT NOT NULL,
    start_time      BIGINT NOT NULL,
    end_time        BIGINT NOT NULL,
    duration_micros BIGINT NOT NULL,
    transcoded      BOOLEAN NOT NULL,
    PRIMARY KEY (recording, format, epoch, epoch_index)
);
CREATE INDEX usage_files_available_time ON usage_files (available_time);
CREATE INDEX usage_files_end_time ON usage_files (end_time);
