-- safe because: a table and an index are added; the release before knows no tasks and starts none.
--
-- A task is kept for good: its id is part of object keys and must not be given out twice. state is a
-- recorder.v1.Task.State as it was told last, due_time when a timer has to look at the task again (NULL: never),
-- stop_time when it was stopped or withdrawn early, body a Task without what the server sets.

CREATE TABLE tasks (
    id          TEXT NOT NULL PRIMARY KEY,
    uid         TEXT NOT NULL,
    rev         BIGINT NOT NULL,
    domain      TEXT NOT NULL,
    app         TEXT NOT NULL,
    stream      TEXT NOT NULL,
    template    TEXT NOT NULL,
    state       INTEGER NOT NULL,
    start_time  BIGINT NOT NULL,
    end_time    BIGINT NOT NULL,
    stop_time   BIGINT,
    due_time    BIGINT,
    body        BLOB NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);
CREATE UNIQUE INDEX tasks_uid ON tasks (uid);
CREATE INDEX tasks_stream ON tasks (domain, app, stream, uid);
CREATE INDEX tasks_state ON tasks (state, uid);
CREATE INDEX tasks_due_time ON tasks (due_time);
CREATE INDEX recordings_task ON recordings (task, state);
